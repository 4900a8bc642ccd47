"""Losses and validation scores of one or several trainings against the iteration, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semanir_plugin.evaluation.pictures import save_figure
from semanir_plugin.evaluation.training_logs import TrainingRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_training"]

# Of the colour-blind-safe Okabe-Ito palette; lines differ in their strokes too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STROKES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMNS = 3
FEW = 60  # scores are marked one by one
MOST_INSIDE = 4  # runs; of more, legends lie below their panels
LEGEND_LINE = 0.18  # inches
SMOOTHED = 100  # a loss of more points is drawn as the mean of its neighbourhood too
SIGNS = {"psnr": 1, "ssim": 1, "lpips": -1, "niqe": -1}  # 1: more is better; by how a metric's name starts


def plot_training(runs: Sequence[TrainingRun], path: Path) -> None:
    """Plot a panel for each loss, then for each metric of each validation set, with all runs.

    Losses are drawn on a logarithmic scale; of scores, the best is marked and told in the legend.

    Args:
        runs: The runs, with different names.
        path: The picture, of a kind that `check_picture_path` lets pass.

    Raises:
        UserError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    names = sorted(dict.fromkeys(name for run in runs for name in run.series), key=lambda name: name.partition("/")[0])
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    below = len(runs) > MOST_INSIDE
    height = 3.5 + LEGEND_LINE * (len(runs) + 3) if below else 3.5
    figure = Figure(figsize=(4.6 * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        plot = _plot_loss if name.startswith("losses/") else _plot_score
        for index, run in enumerate(runs):
            if name in run.series:
                plot(axes, name, run, index)
        _finish(axes, name, below=below)
    for axes in panels[len(names) :]:
        axes.remove()
    save_figure(figure, path)


def _plot_loss(axes: Axes, name: str, run: TrainingRun, index: int) -> None:
    iterations, values = _points(run, name)
    colour, stroke = COLOURS[index % len(COLOURS)], STROKES[index % len(STROKES)]
    width = len(values) // SMOOTHED
    label = run.name
    if width > 1:
        axes.plot(iterations, values, color=colour, alpha=0.25, linewidth=0.7)
        values, label = _smooth(values, width), f"{run.name}, mean of {2 * width + 1} values"
    axes.plot(iterations, values, label=label, color=colour, linestyle=stroke)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean of each value and up to `width` on either side; what is not finite is left out."""
    known = np.isfinite(values)
    sums, counts = (np.concatenate([[0], np.cumsum(each)]) for each in (np.where(known, values, 0), known))
    centre = np.arange(len(values))
    start, stop = np.maximum(centre - width, 0), np.minimum(centre + width + 1, len(values))
    with np.errstate(invalid="ignore"):
        result: np.ndarray = (sums[stop] - sums[start]) / (counts[stop] - counts[start])
        return result


def _plot_score(axes: Axes, name: str, run: TrainingRun, index: int) -> None:
    iterations, values = _points(run, name)
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    sign, known, label = _sign(name), np.isfinite(values), run.name
    if sign is not None and known.any():
        best = int(np.argmax(np.where(known, sign * values, -np.inf)))
        label += f": {values[best]:.{2 if _is_psnr(name) else 4}f} at {iterations[best]:,}"
        star = {"marker": "*", "markersize": 13, "markeredgecolor": "white"}
        axes.plot(iterations[best], values[best], color=colour, zorder=3, **star)  # type: ignore[arg-type]
    stroke = STROKES[index % len(STROKES)]
    few = marker if len(values) <= FEW else None
    axes.plot(iterations, values, label=label, color=colour, linestyle=stroke, marker=few, markersize=4)


def _points(run: TrainingRun, name: str) -> tuple[np.ndarray, np.ndarray]:
    series = run.series[name]
    return np.array(list(series), int), np.array(list(series.values()), float)


def _is_psnr(name: str) -> bool:
    return name.rpartition("/")[2].startswith("psnr")


def _sign(name: str) -> int | None:
    """Return 1 where higher is better, -1 where lower is, None where unknown."""
    metric = name.rpartition("/")[2]
    return next((sign for start, sign in SIGNS.items() if metric.startswith(start)), None)


def _finish(axes: Axes, name: str, *, below: bool) -> None:
    """Label a panel, and place its legend within it or below."""
    from matplotlib.ticker import EngFormatter

    group, _, rest = name.partition("/")
    dataset, _, metric = rest.rpartition("/")
    sign = _sign(name) if group == "metrics" else None
    if group == "losses":
        axes.set(title=f"training loss {rest}", ylabel=rest)
        axes.set_yscale("log", nonpositive="mask")
    else:
        direction = {1: ", more is better", -1: ", less is better", None: ""}[sign]
        axes.set(title=f"validation on {dataset}", ylabel=f"{metric}{' [dB]' if _is_psnr(name) else ''}{direction}")
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3, which="both")
    title = "best (star)" if sign else None
    if below:
        axes.legend(fontsize="small", title=title, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4)
    else:
        axes.legend(fontsize="small", title=title)
