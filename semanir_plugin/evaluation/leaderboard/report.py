"""A leaderboard's results as tables: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.evaluation.leaderboard.columns import ROW_FIELDS, format_short
from semanir_plugin.evaluation.leaderboard.page import write_page
from semanir_plugin.markdown import escape_markdown, format_code

__all__ = ["format_csv", "format_markdown", "print_table", "rank_scores", "write_reports"]

Results = Mapping[str, Any]
Row = Mapping[str, Any]
Style = Literal["rich", "markdown"]

_MARKS = {
    "rich": {0: "[bold]{}[/bold]", 1: "[underline]{}[/underline]"},
    "markdown": {0: "**{}**", 1: "<u>{}</u>"},
}
_NONE, _FAILED = "-", "failed"
_WIDE = 10_000
_DISTURBED = (
    "Disturbed: other work had the processor for much of that row's time; its processor time holds. "
    "Run again when the machine is idle, and it is measured again."
)


def write_reports(results: Results, folder: Path) -> None:
    """Write `results.json`, `results.md`, `results.csv` and `results.html`.

    Raises:
        OSError: One cannot be written.
    """
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    for name, content in (("json", text), ("md", format_markdown(results)), ("csv", format_csv(results))):
        write_atomic(content.encode(), folder / f"results.{name}")
    write_page(results, folder, folder / "results.html")


def rank_scores(results: Results) -> dict[tuple[int, str, str], int]:
    """Return by row, test set and metric which scores are best, 0, and second best, 1.

    Only measured rows compete, as far as digits are shown; equal ones share a rank.
    """
    ranks: dict[tuple[int, str, str], int] = {}
    for test_set in results["test_sets"]:
        for metric in results["metrics"]:
            scores = dict(_competing(results, test_set["name"], metric))
            order = sorted(set(scores.values()), reverse=metric["better"] == "higher")
            if len(scores) > 1:
                ranks |= {
                    (index, test_set["name"], metric["name"]): order.index(score)
                    for index, score in scores.items()
                    if order.index(score) < 2
                }
    return ranks


def _competing(results: Results, test_set: str, metric: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    for index, row in enumerate(results["rows"]):
        score = _score(row, test_set, metric["name"])
        if row["kind"] == "measured" and score is not None:
            yield index, round(score, metric["digits"])


def _score(row: Row, test_set: str, metric: str) -> float | None:
    value = row["cells"].get(test_set, {}).get("scores", {}).get(metric)
    return None if value is None else float(value)


def print_table(results: Results, file: TextIO | None = None) -> None:
    """Print the table: best scores bold, second best underlined, published rows apart and dim."""
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=_WIDE)
    table = Table(title=escape(f"{results['title']} ({_describe_protocol(results)})"), box=box.SIMPLE_HEAD)
    for index, column in enumerate(_columns(results)):
        table.add_column(escape(column), justify="right" if index else "left", no_wrap=index == 0)
    kinds = [row["kind"] for row in results["rows"]]
    for index, (row, texts) in enumerate(zip(results["rows"], _texts(results, "rich"), strict=True)):
        last_measured = index + 1 < len(kinds) and kinds[index] != kinds[index + 1]
        table.add_row(*texts, style="dim" if row["kind"] == "published" else None, end_section=last_measured)
    console.print(table)
    for line in _notes(results):
        console.print(escape(line), soft_wrap=True)


def format_markdown(results: Results) -> str:
    """Return the table as Markdown: best scores bold, second best underlined, published rows named so."""
    columns = ["<br>".join(map(escape_markdown, column.split("\n"))) for column in _columns(results)]
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *_texts(results, "markdown")]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {escape_markdown(line)}" for line in _notes(results))
    environment = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    made = f"{environment['date']}, {environment['device']}, {versions}, commit {environment['commit'] or 'unknown'}"
    about = f"{_describe_protocol(results)}: {results['protocol']['description']}"
    head = f"# {escape_markdown(results['title'])}\n\n{escape_markdown(about)}"
    return f"{head}\n\n{table}\n\n{notes}\n\nMade {escape_markdown(made)} by {format_code(environment['command'])}.\n"


def format_csv(results: Results) -> str:
    """Return all rows in full precision; `error` holds what failed."""
    scores = [(test_set["name"], metric) for test_set in results["test_sets"] for metric in results["metrics"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*ROW_FIELDS, "cost_size", *(f"{name} {metric['label']}" for name, metric in scores), "error"])
    for row in results["rows"]:
        writer.writerow(
            [
                *(row[key] for key in ROW_FIELDS),
                _size(results["cost_size"]) if row["time_ms"] is not None else "",
                *(_score(row, name, metric["name"]) for name, metric in scores),
                "; ".join(f"{name}: {error}" for name, error in _errors(row)),
            ]
        )
    return text.getvalue()


def _describe_protocol(results: Results) -> str:
    return f"protocol {results['protocol']['name']}, version {results['protocol']['version']}"


def _columns(results: Results) -> list[str]:
    metrics = " / ".join(metric["label"] for metric in results["metrics"])
    sets = [" ".join(f"{each['name']} {each['condition']}".split()) for each in results["test_sets"]]
    costs = [f"{cost['label']}\n[{cost['unit']}]" for cost in _shown_costs(results)]
    return ["model", *costs, *(f"{each}\n{metrics}" for each in sets)]


def _shown_costs(results: Results) -> list[Mapping[str, Any]]:
    return [cost for cost in results["costs"] if any(row[cost["key"]] is not None for row in results["rows"])]


def _texts(results: Results, style: Style) -> Iterator[list[str]]:
    """Yield the cells of each row."""
    ranks = rank_scores(results)
    for index, row in enumerate(results["rows"]):
        name = f"{row['model']} (published)" if row["kind"] == "published" else row["model"]
        costs = [_format_cost(cost, row) for cost in _shown_costs(results)]
        cells = [_format_cell(results, index, each["name"], ranks, style) for each in results["test_sets"]]
        yield [_escape(name, style), *costs, *cells]


def _format_cell(
    results: Results, index: int, test_set: str, ranks: Mapping[tuple[int, str, str], int], style: Style
) -> str:
    row = results["rows"][index]
    if row["cells"].get(test_set, {}).get("error"):
        return _FAILED
    texts = []
    for metric in results["metrics"]:
        score = _score(row, test_set, metric["name"])
        text = _NONE if score is None else f"{score:.{metric['digits']}f}"
        rank = ranks.get((index, test_set, metric["name"]))
        texts.append(text if rank is None else _MARKS[style][rank].format(text))
    return " / ".join(texts)


def _escape(text: str, style: Style) -> str:
    return escape(text) if style == "rich" else escape_markdown(text)


def _format_cost(cost: Mapping[str, Any], row: Row) -> str:
    value = row[cost["key"]]
    if value is None:
        return _NONE
    text = format_short(value / cost["factor"])
    if cost["key"] == "time_ms":
        text += f" ({format_short(row['time_low_ms'])}-{format_short(row['time_high_ms'])})"
        text += " disturbed" if row["disturbed"] else ""
    return text


def _size(size: Sequence[int] | None) -> str:
    return " x ".join(map(str, size)) if size else ""


def _errors(row: Row) -> Iterator[tuple[str, str]]:
    for name, cell in row["cells"].items():
        if cell["error"]:
            yield name, cell["error"]


def _notes(results: Results) -> Iterator[str]:
    """Yield notes on the table's cells, and on those that failed."""
    if results["cost_size"]:
        about = "".join(f"; {cost['label']}: {cost['about']}" for cost in _shown_costs(results) if cost["about"])
        yield f"Cost of an input of {_size(results['cost_size'])} on {results['environment']['device']}{about}."
    if any(row["disturbed"] for row in results["rows"]):
        yield _DISTURBED
    sources = _distinct(row["source"] or "" for row in results["rows"] if row["kind"] == "published")
    if sources:
        yield f"Published, not measured here: {'; '.join(sources)}."
    for row in results["rows"]:
        for name, error in _errors(row):
            yield f"Failed: {row['model']} on {name}: {error}"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))
