"""Results of a leaderboard as plain data: the content of `results.json`, of every table and of the page."""

from __future__ import annotations

import importlib.metadata
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from semanir_plugin.basicsr_host.scoring import mean_score
from semanir_plugin.evaluation.benchmark.measuring import read_commit
from semanir_plugin.evaluation.leaderboard.board import Board
from semanir_plugin.evaluation.leaderboard.columns import AVERAGE, COSTS
from semanir_plugin.evaluation.leaderboard.references import image_path, reference_paths
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet, slugify

__all__ = ["Cells", "Failures", "assemble"]

Cells = dict[tuple[str, str], list[dict[str, Any]]]
"""By row and test set, what is known of each image."""
Failures = dict[tuple[str, str], tuple[int, str]]
"""By row and test set, the image at which it failed, and why."""

_PACKAGES = ("semanir_plugin", "basicsr", "torch", "numpy", "opencv-python")


def assemble(
    board: Board, *, costs: Mapping[str, Mapping[str, Any]], cells: Cells, failures: Failures, device: str
) -> dict[str, Any]:
    """Return the results: measured rows as the option file orders them, then published ones.

    Args:
        board: The leaderboard.
        costs: Results of `measure_cost`, by row.
        cells: Records with the `scores` of each image.
        failures: Cells that have none.
        device: Where networks ran.
    """
    protocol = board.protocol
    metrics = [
        {key: getattr(each, key) for key in ("name", "label", "unit", "better", "digits")} for each in protocol.metrics
    ]
    rows = [*(_measured(board, name, costs[name], cells, failures) for name in board.models), *board.published]
    sets = [_describe(each) for each in board.test_sets]
    if board.average:
        averaged = [_describe(each) for each in board.test_sets if each.options.averaged]
        rows, sets = [_with_average(row, averaged) for row in rows], [*sets, _describe_average(averaged)]
    return {
        "title": board.title,
        "task": protocol.task,
        "protocol": {key: getattr(protocol, key) for key in ("name", "version", "description")},
        "metrics": metrics,
        "costs": [asdict(column) for column in COSTS],
        "cost_size": [protocol.num_channels, *board.cost.size] if board.cost else None,
        "test_sets": sets,
        "environment": _environment(device),
        "rows": rows,
        "references": _references(board) if board.save_images else {},
    }


def _describe(test_set: TestSet) -> dict[str, Any]:
    condition = test_set.protocol.describe_condition(test_set.level)
    drawn = test_set.degradation
    how = {"degradation": {drawn.name: drawn.levels}, "seed": drawn.seed} if drawn else {}
    return {"name": test_set.name, "images": len(test_set), "condition": condition, **how}


def _describe_average(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"name": AVERAGE, "images": sum(each["images"] for each in sets), "condition": f"of {len(sets)} sets"}


def _with_average(row: dict[str, Any], sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add the mean of these test sets, each counting the same; of metrics of which one has none, there is none."""
    scores = [row["cells"].get(each["name"], {}).get("scores", {}) for each in sets]
    known = [key for key in scores[0] if all(each.get(key) is not None for each in scores)]
    means = {key: mean_score(each[key] for each in scores) for key in known}
    return {**row, "cells": {**row["cells"], AVERAGE: {"scores": means, "error": None, "images": []}}}


def _measured(board: Board, name: str, cost: Mapping[str, Any], cells: Cells, failures: Failures) -> dict[str, Any]:
    return {
        "model": name,
        "kind": "measured",
        "source": board.models[name].source,
        **cost,
        "cells": {each.name: _cell(board, name, each, cells, failures) for each in board.test_sets},
    }


def _cell(board: Board, row: str, test_set: TestSet, cells: Cells, failures: Failures) -> dict[str, Any]:
    if (row, test_set.name) in failures:
        return {"scores": {}, "error": failures[row, test_set.name][1], "images": []}
    records = [record["scores"] for record in cells[row, test_set.name]]
    images = [
        {
            "name": each.name,
            "scores": {key: _finite(value) for key, value in scores.items()},
            "output": image_path(slugify(row), test_set, each.name) if board.save_images else None,
        }
        for each, scores in zip(test_set.found, records, strict=True)
    ]
    means = {key: _finite(mean_score(scores[key] for scores in records)) for key in records[0]}
    return {"scores": means, "error": None, "images": images}


def _finite(value: float) -> float | None:
    """Return a score as JSON can hold it: infinite decibels, those of equal images, as None."""
    return value if math.isfinite(value) else None


def _references(board: Board) -> dict[str, Any]:
    return {
        each.name: {found.name: reference_paths(each, found.name) for found in each.found} for each in board.test_sets
    }


def _environment(device: str) -> dict[str, Any]:
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["basicsr", *sys.argv[1:]]),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "device": device,
        "commit": read_commit(),
    }


def _version(name: str) -> str | None:
    if name == "semanir_plugin":
        from semanir_plugin import __version__

        return __version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
