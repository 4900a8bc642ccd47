"""The page: what stands on it, and what happens when it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semanir_plugin.errors import UserError, one_line
from semanir_plugin.inference.photograph_reading import READABLE
from semanir_plugin.web.batch import Report
from semanir_plugin.web.example import write_example
from semanir_plugin.web.offers import Offer
from semanir_plugin.web.workshop import Settings, Workshop

if TYPE_CHECKING:
    import gradio

__all__ = ["LOOKS", "build_page"]

TITLE = "Restore photographs"
SENTENCE = "Drop pictures, choose what to do with them, and compare before and after; nothing leaves this computer."
SENTENCE_OF_OTHERS = "Drop pictures, choose what to do with them, and compare before and after."

TILES = [("as large as memory allows", "auto"), ("the whole picture at once", "whole")]
SIDES = (64, 128, 256, 512)

LOOKS = Path(__file__).parent / "looks.css"

Updates = list[Any]


def build_page(workshop: Workshop, *, local: bool, measurable: bool) -> gradio.Blocks:
    """Return the page of a workshop.

    Args:
        workshop: Does the work.
        local: Whether it is shown on this computer alone.
        measurable: Whether memory can be measured here, and tiles chosen by it.
    """
    import gradio as gr

    page: gradio.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 7200)) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p>{SENTENCE if local else SENTENCE_OF_OTHERS}</p>", elem_id="head")
        with gr.Row(elem_id="body"):
            with gr.Column(scale=4, min_width=320):
                asked = _Asked(gr, list(workshop.offers.values()), measurable)
            with gr.Column(scale=6, min_width=320):
                shown = _Shown(gr)
        _connect(gr, page, workshop, asked, shown)
    return page


class _Asked:
    """What a visitor fills in, and the buttons."""

    def __init__(self, gr: Any, offers: Sequence[Offer], measurable: bool) -> None:
        first = offers[0]
        self.pictures = gr.File(
            label="Pictures", file_count="multiple", file_types=list(READABLE), height=150, elem_id="pictures"
        )
        _take_no_addresses(self.pictures)
        self.example = gr.Button("Take the example picture", size="sm", elem_id="example")
        labels = [offer.label for offer in offers]
        self.offer = gr.Radio(labels, value=first.label, label="What to do", elem_id="offer")
        self.about = gr.HTML(about_html(first), elem_id="about")
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            sides = [(f"{side} pixels a side", str(side)) for side in SIDES]
            tiles = [*(TILES if measurable else TILES[1:]), *sides]
            self.tile = gr.Dropdown(
                tiles, value="auto" if measurable else "512", label="Tiles", info="Smaller ones take less memory."
            )
            self.ensemble = gr.Checkbox(
                label="Self-ensemble", info="The mean over flips and turns: a little better, eight times slower."
            )
            self.topk = gr.Number(precision=0, minimum=1, **_about_topk(first))
        with gr.Row():
            self.restore = gr.Button("Restore", variant="primary", elem_id="restore")
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")

    @property
    def settings(self) -> list[Any]:
        return [self.pictures, self.offer, self.topk, self.tile, self.ensemble]


class _Shown:
    """What a visitor is shown."""

    def __init__(self, gr: Any) -> None:
        self.status = gr.HTML(hint_html(), elem_id="status", container=False)
        self.problems = gr.HTML("", elem_id="problems", visible=False)
        self.which = gr.Dropdown([], label="Picture", visible=False, elem_id="which")
        self.slider = gr.ImageSlider(
            label="Before and after",
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            max_height=620,
            visible=False,
            elem_id="slider",
        )
        self.about = gr.HTML("", elem_id="result", visible=False)
        with gr.Row():
            self.download = gr.DownloadButton("Download", variant="primary", visible=False, elem_id="download")
            self.archive = gr.DownloadButton("Download all", visible=False, elem_id="archive")
        self.report = gr.State(None)

    @property
    def result(self) -> list[Any]:
        return [self.slider, self.about, self.download]

    @property
    def all(self) -> list[Any]:
        return [self.status, self.problems, self.which, *self.result, self.archive, self.report]


def _connect(gr: Any, page: Any, workshop: Workshop, asked: _Asked, shown: _Shown) -> None:
    """Say what happens when something is chosen or pressed."""
    hidden = {"api_visibility": "private", "show_progress": "hidden"}
    at_once = {**hidden, "queue": False}
    buttons = [asked.restore, asked.stop]

    def restore(
        pictures: list[str] | None, offer: str, topk: float | None, tile: str, ensemble: bool, request: Any
    ) -> Iterator[Updates]:
        settings = Settings(
            offer=offer,
            topk=_topk(workshop.offers.get(offer), topk),
            tile=None if tile == "whole" else tile if tile == "auto" else int(tile),  # type: ignore[arg-type]
            self_ensemble=ensemble,
        )
        yield from _restore(gr, workshop, str(request.session_hash), [Path(each) for each in pictures or []], settings)

    def stop(request: Any) -> Updates:
        workshop.stop(str(request.session_hash))
        return [gr.Button("Stopping ...", interactive=False)]

    def leave(request: Any) -> None:
        workshop.forget(str(request.session_hash))

    def choose(offer: str) -> Updates:
        chosen = workshop.offers[offer]
        return [about_html(chosen), gr.Number(**_about_topk(chosen))]

    def show(which: int | None, report: Report | None) -> Updates:
        return _result_updates(gr, report or Report(), which or 0)

    def example(offer: str) -> list[str]:
        return [str(write_example(workshop.offers[offer], workshop.new_folder()))]

    for each in (restore, stop, leave):
        each.__annotations__["request"] = gr.Request  # by which Gradio knows what to give

    asked.offer.change(choose, asked.offer, [asked.about, asked.topk], **at_once)
    asked.example.click(example, asked.offer, asked.pictures, **at_once)
    shown.which.input(show, [shown.which, shown.report], shown.result, **at_once)
    asked.restore.click(
        restore, asked.settings, [*shown.all, *buttons], concurrency_limit=16, trigger_mode="once", **hidden
    )
    asked.stop.click(stop, None, [asked.stop], **at_once)
    page.unload(leave)


def _restore(
    gr: Any, workshop: Workshop, visitor: str, pictures: Sequence[Path], settings: Settings
) -> Iterator[Updates]:
    """Yield what to show while pictures are restored; whatever fails is shown in one line."""
    known = -1
    try:
        for report in workshop.restore(visitor, pictures, settings):
            new, known = len(report.results) != known or not report.doing, len(report.results)
            yield _updates(gr, report, len(pictures), new)
    except UserError as error:
        yield _updates(gr, Report(problems=[str(error)]), 0, True)
    except Exception as error:
        yield _updates(gr, Report(problems=[f"failed with {one_line(error)}"]), 0, True)


def _updates(gr: Any, report: Report, total: int, new: bool) -> Updates:
    """Return updates of all that is shown, of results only where they are new."""
    busy = bool(report.doing)
    status = status_html(report, total)
    about = [gr.HTML(status, visible=bool(status)), gr.HTML(problems_html(report), visible=bool(report.problems))]
    names = [(result.file.name, number) for number, result in enumerate(report.results)]
    which = gr.Dropdown(names, value=len(names) - 1 if names else None, visible=len(names) > 1)
    archive = gr.DownloadButton(f"Download all {len(names)}", value=_text(report.archive), visible=bool(report.archive))
    results = [which, *_result_updates(gr, report, len(names) - 1), archive, report]
    buttons = [
        gr.Button(interactive=not busy),
        gr.Button("Stop", visible=busy, interactive=True) if new or not busy else gr.skip(),
    ]
    return [*about, *(results if new else [gr.skip()] * len(results)), *buttons]


def _result_updates(gr: Any, report: Report, which: int) -> Updates:
    """Return updates of what shows a result."""
    if not 0 <= which < len(report.results):
        return [gr.ImageSlider(None, visible=False), gr.HTML("", visible=False), gr.DownloadButton(visible=False)]
    result = report.results[which]
    return [
        gr.ImageSlider((str(result.before), str(result.after)), visible=True),
        gr.HTML(f"<b>{escape(result.file.name)}</b> {escape(result.about)}", visible=True),
        gr.DownloadButton(f"Download {result.file.name}", value=str(result.file), visible=True),
    ]


def hint_html() -> str:
    """Return what stands where results will be."""
    return "<div class='hint'>Before and after will be shown here.</div>"


def about_html(offer: Offer) -> str:
    """Return what a network is for."""
    return f"<p>{escape(offer.about)} <code>{escape(Path(offer.source).name)}</code></p>"


def status_html(report: Report, total: int) -> str:
    """Return how far the work is: a bar with the time left, or what came of it."""
    done = len(report.results)
    if not report.doing:
        stopped = "Stopped; " if report.done < total else ""
        return f"<p>{stopped}{done} of {total} restored.</p>" if total > 1 or done < total else ""
    told = f"{escape(report.doing)}{_left(report)}"
    count = f" ({min(report.done + 1, total)} of {total})" if total > 1 else ""
    return f"<p>{told}{count}</p><progress max='1' aria-label='restored' value='{report.share:.3f}'></progress>"


def problems_html(report: Report) -> str:
    """Return what went wrong, a line each."""
    return "".join(f"<p>{escape(problem)}</p>" for problem in report.problems)


def _left(report: Report) -> str:
    if report.share < 0.05 or report.seconds < 2:
        return ""
    left = report.seconds * (1 - report.share) / report.share
    return f", about {left / 60:.0f} min left" if left > 90 else f", about {max(left, 1):.0f} s left"


def _about_topk(offer: Offer) -> dict[str, Any]:
    topk = offer.descriptor.topk
    most = max(topk or (1,))
    told = f"Fewer are faster; {most} is what it was trained with."
    return {"label": "Keys per pixel (k)", "info": told, "value": most, "visible": bool(topk)}


def _topk(offer: Offer | None, topk: float | None) -> int | None:
    """Return the keys per query that were chosen; None: the network's own choice."""
    own = offer and offer.descriptor.topk
    return int(topk) if own and topk and topk != max(own) else None


def _take_no_addresses(files: Any) -> None:
    """Have a component refuse addresses in place of files, which Gradio would fetch for a visitor."""
    fetch = files.async_move_resource_to_block_cache

    async def keep(path: str | Path | None) -> str | None:
        if path is not None and "://" in str(path):
            raise UserError("drop a file; addresses are not fetched")
        result: str | None = await fetch(path)
        return result

    files.async_move_resource_to_block_cache = keep


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
