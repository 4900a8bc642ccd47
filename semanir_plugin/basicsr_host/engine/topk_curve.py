"""Quality and time against keys per query: the paper's figure on top-k, for any test sets."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.data.sharing import share_of_loader
from semanir_plugin.markdown import escape_markdown

__all__ = ["Point", "format_table", "measure_curve", "plot_curve", "write_csv"]

SECONDS = "seconds_per_image"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")  # Okabe-Ito, safe for all eyes


@dataclass(frozen=True)
class Point:
    """Scores of a network on a test set with `topk` keys per query.

    Attributes:
        dataset: Name of the test set.
        topk: Keys per query.
        values: Means of the metrics by name, and the median of `seconds_per_image`.
    """

    dataset: str
    topk: int
    values: dict[str, float]

    @property
    def label(self) -> str:
        """The name of the test set at this k: of its folder of images, and of its entry in metrics.json."""
        return _label(self.dataset, self.topk)


def _label(dataset: str, topk: int) -> str:
    return f"{dataset}_topk{topk}"


def measure_curve(
    model: Any, loader: DataLoader[Any], topks: Sequence[int], score: Callable[[DataLoader[Any]], dict[str, float]]
) -> list[Point]:
    """Score a test set with each number of keys.

    Time is the median over the images; before it is taken, a process restores one image of each size of its own.

    Args:
        model: A SemanIRModel, with a network that has a `topk`.
        loader: The test set.
        topks: Numbers of keys per query.
        score: Validates the model on the loader, whose name is that of the point, and returns the metrics.

    Returns:
        The points by rising k.
    """
    dataset: Any = loader.dataset
    name, points = dataset.opt["name"], []
    for topk in sorted(set(topks), reverse=True):  # a tile that memory allows for the largest serves all
        model.restoration.options = replace(model.restoration.options, topk=topk)
        dataset.opt["name"] = _label(name, topk)
        _warm_up(model, loader)
        values = score(loader)
        points.append(Point(name, topk, {**values, SECONDS: statistics.median(model.seconds_per_image)}))
    dataset.opt["name"] = name
    return points[::-1]


def _warm_up(model: Any, loader: DataLoader[Any]) -> None:
    seen = set()
    for sample in share_of_loader(loader, model.opt["rank"], model.opt["world_size"]):
        if sample["lq"].shape not in seen:
            seen.add(sample["lq"].shape)
            model.feed_data({"lq": sample["lq"]})
            model.test()
            del model.lq, model.output


def _rows(points: Sequence[Point]) -> Iterator[list[Any]]:
    yield ["dataset", "topk", *points[0].values]
    for point in points:
        yield [point.dataset, point.topk, *point.values.values()]


def _text(cell: Any) -> str:
    return f"{cell:.4f}" if isinstance(cell, float) else escape_markdown(str(cell))


def format_table(points: Sequence[Point]) -> str:
    """Return the points as a Markdown table with aligned columns."""
    rows = [[_text(cell) for cell in row] for row in _rows(points)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in (rows[0], rule, *rows[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in aligned)


def write_csv(points: Sequence[Point], path: Path) -> None:
    """Write the points in full precision."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_rows(points))
    write_atomic(text.getvalue().encode(), path)


def plot_curve(points: Sequence[Point], path: Path) -> bool:
    """Plot each value against k, a row of panels for each test set; without matplotlib do nothing and return False."""
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    datasets, names = list(dict.fromkeys(point.dataset for point in points)), list(points[0].values)
    figure = Figure(figsize=(3.4 * len(names), 2.6 * len(datasets)), layout="constrained")
    grid = figure.subplots(len(datasets), len(names), squeeze=False)
    for row, dataset in zip(grid, datasets, strict=True):
        curve = [point for point in points if point.dataset == dataset]
        topks = [point.topk for point in curve]
        for axes, name, colour in zip(row, names, COLOURS * len(names), strict=False):
            axes.plot(topks, [point.values[name] for point in curve], marker="o", color=colour)
            axes.set_xscale("log", base=2)
            axes.set_xticks(topks, labels=map(str, topks))
            axes.minorticks_off()
            axes.ticklabel_format(axis="y", useOffset=False)
            axes.set(xlabel="keys per query", ylabel=name.replace("_", " "), title=dataset)
            axes.grid(alpha=0.3)
            if name == SECONDS:
                axes.set_ylim(bottom=0)  # else noise fills the panel
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format="png")
    write_atomic(content.getvalue(), path)
    return True
