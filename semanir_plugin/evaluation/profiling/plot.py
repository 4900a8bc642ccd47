"""Profiles as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from semanir_plugin.evaluation.pictures import save_figure
from semanir_plugin.evaluation.profiling.ops import OpCost
from semanir_plugin.evaluation.profiling.profile import Profile
from semanir_plugin.evaluation.profiling.stages import StageCost

__all__ = ["plot_profiles"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")  # Okabe-Ito, safe for all eyes

PANELS: tuple[tuple[str, Callable[[StageCost], float | None]], ...] = (
    ("parameters (millions)", lambda cost: cost.parameters / 1e6),
    ("operations (GFLOPs)", lambda cost: cost.gflops),
    ("time (ms)", lambda cost: cost.milliseconds),
    ("peak memory (MiB)", lambda cost: cost.mib),
)


def plot_profiles(profiles: Sequence[Profile], title: str, path: Path) -> bool:
    """Plot the cost of each part, a bar for each size, and below each backend's time for the attention of an image.

    Without matplotlib do nothing and return False.
    """
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    parts, backends = len(profiles[0].stages) - 1, _backends(profiles)
    heights = [1.2 + 0.2 * parts * max(len(profiles), 1.2), 1.2 + 0.22 * len(backends) * max(len(profiles), 1.2)]
    figure = Figure(figsize=(13, sum(heights[: 1 + bool(backends)])), layout="constrained")
    figure.suptitle(title)
    top, *bottom = figure.subfigures(1 + bool(backends), 1, height_ratios=heights[: 1 + bool(backends)], squeeze=False)
    _plot_stages(top[0], profiles)
    if bottom:
        _plot_backends(bottom[0][0], profiles, backends)
    save_figure(figure, path)
    return True


def _plot_stages(figure: Any, profiles: Sequence[Profile]) -> None:
    names = [cost.name for cost in profiles[0].stages[:-1]]
    for axes, (label, value) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        same = label.startswith("parameters")  # at every size
        rows = [[value(cost) or 0.0 for cost in profile.stages[:-1]] for profile in profiles[: 1 if same else None]]
        _bars(axes, rows, names, ["any size"] if same else _sizes(profiles))
        axes.set_xlabel(label)
        if len(profiles) > 1 and label.startswith("time"):
            axes.legend(title="input", loc="best")


def _plot_backends(figure: Any, profiles: Sequence[Profile], backends: Sequence[str]) -> None:
    axes = figure.subplots(1, 1)
    rows = [[_time_of(profile.ops, backend) for backend in backends] for profile in profiles]
    chosen = {cost.backend for profile in profiles for cost in profile.ops if cost.chosen}
    _bars(axes, rows, [f"{each} (auto)" if each in chosen else each for each in backends], _sizes(profiles))
    axes.set_xlabel("attention of one image by backend (ms)")
    if len(profiles) > 1:
        axes.legend(title="input", loc="best")


def _bars(axes: Any, rows: Sequence[Sequence[float]], names: Sequence[str], labels: Sequence[str]) -> None:
    """Plot a group of horizontal bars for each name, one of each row, from top to bottom."""
    thickness = 0.8 / len(rows)
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        places = [place + (index - (len(rows) - 1) / 2) * thickness for place in range(len(names))]
        bars = axes.barh(places, row, thickness, color=COLOURS[index % len(COLOURS)], label=label)
        axes.bar_label(bars, [_short(value) for value in row], padding=2, fontsize=7)
    axes.set_yticks(range(len(names)), labels=names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.18)
    axes.grid(axis="x", alpha=0.3)


def _short(value: float) -> str:
    return "" if not value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sizes(profiles: Sequence[Profile]) -> list[str]:
    return [f"{height}x{width}" for height, width in (profile.size for profile in profiles)]


def _backends(profiles: Sequence[Profile]) -> list[str]:
    """Return the backends that ran, of every shape of the attention."""
    ops = [cost for profile in profiles for cost in profile.ops]
    failed = {cost.backend for cost in ops if cost.milliseconds is None}
    return list(dict.fromkeys(cost.backend for cost in ops if cost.backend not in failed))


def _time_of(ops: Sequence[OpCost], backend: str) -> float:
    """Return the milliseconds of all calls."""
    return sum(cost.calls * (cost.milliseconds or 0.0) for cost in ops if cost.backend == backend)
