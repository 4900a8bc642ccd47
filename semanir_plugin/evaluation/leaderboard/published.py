"""Published results, as rows beside those measured: figures to cite, marked as such wherever they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from semanir_plugin.basicsr_host.scoring import Protocol
from semanir_plugin.errors import UserError, describe_unknown
from semanir_plugin.evaluation.leaderboard.columns import NO_COST
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet

__all__ = ["published_rows"]

# By protocol, where its figures stand and what tells the methods of a place apart; {} is the scale.
_PLACES: dict[str, tuple[tuple[str, str], ...]] = {
    "sr_y_crop": (("classical_sr/x{}", ""), ("lightweight_sr/x{}", "")),
    "deblurring_rgb": (("motion_deblurring", ""),),
    "denoising_gray": (("denoising/gray/blind", " (blind)"), ("denoising/gray/per_level", "")),
    "denoising_color_bgr": (("denoising/color/blind", " (blind)"), ("denoising/color/per_level", "")),
    "denoising_color_rgb": (("denoising/color/blind", " (blind)"), ("denoising/color/per_level", "")),
    "jpeg_gray": (("jpeg_artifact_removal/gray_per_quality", ""),),
    "jpeg_color": (("jpeg_artifact_removal/color_per_quality", ""),),
    "demosaicking_crop10": (("demosaicking", ""),),
    "weather_rgb": (("adverse_weather", ""),),
    "all_in_one_3": (("all_in_one/three_tasks", ""),),
    "all_in_one_5": (("all_in_one/five_tasks", ""),),
}
_LEVELS = {"sigma": (15, 25, 50), "quality": (10, 20, 30, 40)}
_SET_PER_LEVEL = ("all_in_one_3", "all_in_one_5")
"""Protocols of which each noise level is a test set of its own, beside sets of pairs that have none."""
_METRICS = ("psnr", "ssim")


def published_rows(
    protocol: Protocol, test_sets: Sequence[TestSet], scale: int, wanted: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return published results by a protocol on test sets, as rows of a leaderboard.

    Args:
        protocol: By whose details the figures were made, as far as papers tell.
        test_sets: Of which figures are taken: those with the name in `benchmark`.
        scale: Of super-resolution.
        wanted: Methods to take; None: all.

    Returns:
        Rows of at least one cell.

    Raises:
        UserError: A method that is wanted is not known, or nothing is for this protocol.
    """
    if protocol.name not in _PLACES:
        raise UserError(f"no results published by the protocol '{protocol.name}' are known; remove published")
    entries = list(_entries(protocol, scale))
    _check_wanted(wanted or (), {method for method, _, _ in entries})
    rows = (_make_row(method + suffix, entry, protocol, test_sets) for method, suffix, entry in entries)
    methods = [method for method, _, _ in entries]
    return [
        row for method, row in zip(methods, rows, strict=True) if row["cells"] and (wanted is None or method in wanted)
    ]


@cache
def _load() -> dict[str, Any]:
    text = (files("semanir_plugin.evaluation.leaderboard") / "published_results.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _entries(protocol: Protocol, scale: int) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield methods, a suffix that distinguishes their variants, and their entries with the nearest `source`."""
    for place, suffix in _PLACES[protocol.name]:
        section: Any = _load()
        source = section["source"]
        for key in place.format(scale).split("/"):
            section = section.get(key, {})
            source = section.get("source", source)
        for method, entry in section.items():
            if method != "source":
                yield method, suffix, {"source": source, **entry}


def _check_wanted(wanted: Iterable[str], known: set[str]) -> None:
    for name in wanted:
        if name not in known:
            raise UserError(describe_unknown("method", name, known))


def _make_row(name: str, entry: Mapping[str, Any], protocol: Protocol, test_sets: Sequence[TestSet]) -> dict[str, Any]:
    figures = {key.lower(): value for key, value in entry.items()}
    scores = {each.name: _read(figures.get(each.benchmark.lower()), protocol, each.level) for each in test_sets}
    millions = entry.get("params_M")
    return {
        "model": name,
        "kind": "published",
        "source": entry["source"],
        **NO_COST,
        "parameters": None if millions is None else round(1e6 * millions),
        "cells": {key: {"scores": each, "error": None, "images": []} for key, each in scores.items() if each},
    }


def _read(figure: Any, protocol: Protocol, level: Any) -> dict[str, float]:
    """Return the scores of a figure: PSNR, PSNR and SSIM, or one of these for each level."""
    levels = None if protocol.name in _SET_PER_LEVEL else _LEVELS.get(protocol.condition or "")
    if figure is not None and levels is not None:
        figure = figure[levels.index(int(level))] if level in levels else None
    values = figure if isinstance(figure, list) else [figure]
    return {name: float(value) for name, value in zip(_METRICS, values, strict=False) if value is not None}
