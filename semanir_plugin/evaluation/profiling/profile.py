"""Profiles of a network at several sizes: costs by part and by backend, as tables and as JSON."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.evaluation.profiling.ops import OpCost, profile_ops
from semanir_plugin.evaluation.profiling.stages import StageCost, profile_stages

__all__ = ["Profile", "format_profile", "profile_network", "write_json"]

Row = Sequence[str]


@dataclass(frozen=True)
class Profile:
    """Costs of restoring an image of one size.

    Attributes:
        size: Height and width.
        stages: Parts of the network, then the rest and the total.
        ops: Calls of its attention, by shape and backend; empty where it has none of ours.
    """

    size: tuple[int, int]
    stages: list[StageCost]
    ops: list[OpCost]


def profile_network(network: nn.Module, size: tuple[int, int], *, channels: int, repeats: int = 3) -> Profile:
    """Measure a network at one size, as `profile_stages` and `profile_ops` do."""
    gc.collect()
    gc.freeze()  # else each measure of memory would go through all that is loaded
    try:
        stages = profile_stages(network, size, channels=channels, repeats=repeats)
        return Profile(size, stages, profile_ops(network, size, channels=channels, repeats=repeats))
    finally:
        gc.unfreeze()


def format_profile(profile: Profile) -> str:
    """Return a profile as tables of plain text."""
    height, width = profile.size
    parts = [f"{height}x{width}", _align(_stage_rows(profile.stages))]
    if profile.ops:
        parts.append(_align(_op_rows(profile.ops)) + "\n* is what 'auto' takes")
    return "\n\n".join(parts)


def _stage_rows(stages: Sequence[StageCost]) -> list[Row]:
    total = stages[-1].milliseconds or 1.0
    head = ("part", "module", "parameters", "GFLOPs", "ms", "share", "MiB")
    rows = [
        (
            cost.name,
            cost.kind,
            f"{cost.parameters:,}",
            f"{cost.gflops:.3f}",
            f"{cost.milliseconds:.1f}",
            f"{cost.milliseconds / total:.0%}",
            _number(cost.mib),
        )
        for cost in stages
    ]
    return [head, *rows]


def _op_rows(ops: Sequence[OpCost]) -> list[Row]:
    head = ("op", "B x H x N x D", "keys", "calls", "backend", "ms", "MiB")
    rows = [
        (
            cost.op,
            " x ".join(map(str, cost.shape)),
            str(cost.keys),
            str(cost.calls),
            cost.backend + " *" * cost.chosen,
            _number(cost.milliseconds) if cost.reason is None else f"({cost.reason})",
            _number(cost.mib) if cost.reason is None else "",
        )
        for cost in ops
    ]
    return [head, *rows]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _align(rows: Sequence[Row]) -> str:
    """Return rows in columns: words to the left, numbers to the right; what is in brackets may stick out."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column if not cell.startswith("(") or cell == "(rest)") for column in columns]
    numbers = [any(cell[:1].isdigit() for cell in column[1:]) and " x " not in column[1] for column in columns]
    lines = (
        "  ".join(
            cell.rjust(width) if number and cell[:1] != "(" else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def write_json(profiles: Sequence[Profile], about: dict[str, Any], path: Path) -> None:
    """Write profiles in full precision, with the network and the machine that they are of.

    Raises:
        OSError: The file cannot be written.
    """
    content = {**about, "profiles": [asdict(profile) for profile in profiles]}
    write_atomic((json.dumps(content, indent=2) + "\n").encode(), path)
