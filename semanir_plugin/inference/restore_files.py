"""Restoring pipeline of `basicsr restore`: files of photographs and films, restored by trained weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from semanir_plugin.errors import UserError, printable
from semanir_plugin.inference.films.kinds import FilmOptions
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.purposes import SCALES, choose_weights, limits_of
from semanir_plugin.inference.restore_job import Outcome, try_job
from semanir_plugin.inference.restore_plan import Job, plan_jobs
from semanir_plugin.inference.tile_memory import keep_freed_memory
from semanir_plugin.inference.tiling import Progress

__all__ = ["RestoreArguments", "restore_files"]

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total} images [{elapsed}<{remaining}{postfix}]"


@dataclass(frozen=True, kw_only=True)
class RestoreArguments:
    """The flags of `basicsr restore`.

    Attributes:
        inputs: Files, folders or patterns.
        output: A folder, or a file.
        model: A checkpoint, or the name of shipped weights; None: those that enlarge any picture.
        scale: How many times these enlarge, a key of `purposes.SCALES`; None: the first of them.
        opt: An option file whose `network_g` the checkpoint is of; None: the checkpoint says it.
        tile: Side of the tiles in pixels of the input; "auto"; None: photographs are restored whole, large ones in
            tiles of 512.
        tile_overlap: Pixels that neighbouring tiles share; None: 32.
        precision: A key of `restorer.PRECISIONS`.
        topk: Keys per query; None: the network's own choice.
        self_ensemble: Whether to average all eight flips and turns.
        device: Where to restore; None: on a GPU where there is one.
        recursive: Whether folders within folders are searched.
        suffix: End of the names of results, before the file type.
        overwrite: Whether results that are there are replaced.
        skip_existing: Whether photographs whose results are there are left out.
        video_codec: As of `FilmOptions`.
        crf: As of `FilmOptions`.
        debug: Whether failures show where they come from.
    """

    inputs: Sequence[str]
    output: str
    model: str | None = None
    scale: int | None = None
    opt: str | None = None
    tile: int | Literal["auto"] | None = None
    tile_overlap: int | None = None
    precision: str = "fp32"
    topk: int | None = None
    self_ensemble: bool = False
    device: str | None = None
    recursive: bool = False
    suffix: str = ""
    overwrite: bool = False
    skip_existing: bool = False
    video_codec: str | None = None
    crf: int | None = None
    debug: bool = False


def restore_files(args: RestoreArguments) -> tuple[int, int]:
    """Restore photographs and films; failures are named on stderr, and do not end the run.

    Every result appears whole or not at all.

    Returns:
        How many were restored, and how many could not be.

    Raises:
        UserError: The arguments, the model or the names of the results are not right; nothing is restored then.
    """
    from tqdm import tqdm  # here, as the core is imported without it

    model, note = _choose_model(args)
    films = FilmOptions(video_codec=args.video_codec, crf=args.crf)
    jobs = plan_jobs(
        args.inputs,
        args.output,
        recursive=args.recursive,
        suffix=args.suffix,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
        films=films,
    )
    restoration = _prepare(args, model)
    keep_freed_memory()
    if note:
        tqdm.write(printable(f"note: {note}"), file=sys.stderr)
    failures = 0
    with tqdm(total=len(jobs), desc="Restoring", bar_format=BAR, disable=None) as bar:
        for number, job in enumerate(jobs, 1):
            outcome = try_job(job, restoration, _show_on(bar, number, job), films=films, debug=args.debug)
            failures += outcome.problem is not None
            _tell(job, outcome)
    return len(jobs) - failures, failures


def _show_on(bar: Any, number: int, job: Job) -> Progress:
    """Return a progress callback that advances a bar of files by the tiles, or pictures of a film, of one of them."""
    unit, begun = "picture" if job.is_film else "tile", False

    def show(done: int, total: int) -> None:
        nonlocal begun
        if job.is_film and not begun and not bar.disable:  # what an earlier command did, which took no time now
            for place in ("n", "initial", "last_print_n"):
                setattr(bar, place, getattr(bar, place) + done / max(1, total))
        begun = True
        bar.set_postfix_str(f"{unit} {done:,} of {total:,}", refresh=False)
        bar.update(number - 1 + done / max(1, total) - bar.n)

    return show


def _tell(job: Job, outcome: Outcome) -> None:
    from tqdm import tqdm

    if outcome.problem:
        tqdm.write(printable(f"{job.source}: {outcome.problem}"), file=sys.stderr)
    for note in outcome.notes:
        tqdm.write(printable(f"{job.source}: note: {note}"), file=sys.stderr)
    if outcome.lost:
        told = f"{job.source}: note: a {job.target.suffix} does not keep its {', '.join(outcome.lost)}"
        tqdm.write(printable(told), file=sys.stderr)


def _choose_model(args: RestoreArguments) -> tuple[str, str | None]:
    """Return the checkpoint or the name of weights, and what is to be said of it.

    Raises:
        UserError: Flags do not go together; or none is named, and what would be taken does not come with this version.
    """
    if args.model is not None:
        if args.scale is not None:
            raise UserError("--scale chooses a network where none is named; leave it out, or leave out --model")
        return args.model, limits_of(args.model)
    if args.opt is not None:
        raise UserError("-opt says what network a checkpoint is of; name the checkpoint by --model, or leave it out")
    scale = args.scale or next(iter(SCALES))
    name = choose_weights(scale)
    others = " or ".join(f"--scale {each}" for each in SCALES if each != scale)
    return name, f"no --model, so {name}, which enlarges {scale} times; {others} or --model NAME for others"


def _prepare(args: RestoreArguments, model: str) -> PhotographRestoration:
    """Load the model and return the restoration that the flags ask for.

    Raises:
        UserError: The model is not right, or flags do not go with it.
    """
    restorer = load(model, device=args.device, options=_read_options(args.opt))
    try:
        return restorer.configure(
            tile=args.tile,
            tile_overlap=args.tile_overlap,
            precision=args.precision,
            topk=args.topk,
            self_ensemble=args.self_ensemble,
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def _read_options(opt: str | None) -> dict[str, Any] | None:
    if opt is None:
        return None
    from semanir_plugin.option_files import read_network  # with PyYAML, for this alone

    return read_network(opt)
