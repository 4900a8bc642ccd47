"""Results of a leaderboard that never ran: its structure is that of `results.json`, its figures mean nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semanir_plugin.evaluation.leaderboard.columns import COSTS, NO_COST

# A name that would run, were it not text.
HOSTILE = "</script><img src=x onerror=\"document.title='stolen'\">&amp;\u2028'"

METRICS = [
    {"name": "psnr", "label": "PSNR", "unit": "dB", "better": "higher", "digits": 2},
    {"name": "ssim", "label": "SSIM", "unit": "", "better": "higher", "digits": 4},
]
# Name, strength of its blur, parameters, mult-adds, milliseconds.
MODELS = [
    ("Bicubic", 2.4, 0, 0.4e9, 0.8),
    ("SRCNN-like", 1.9, 57_000, 0.9e9, 2.1),
    ("EDSR-baseline", 1.4, 1_518_000, 9.1e9, 14.2),
    ("SwinIR-light", 1.2, 897_000, 5.4e9, 48.0),
    ("SemanIR-light, k = 256", 1.0, 983_340, 5.1e9, 41.5),
    ("SemanIR-S", 0.6, 12_017_703, 63.8e9, 402.0),
]
PUBLISHED = [("RCAN", 15_590_000, 1.3), ("SwinIR", 11_900_000, 1.6), ("SemanIR-B (paper)", 20_040_000, 1.8)]


def crops_of(photos: dict[str, Path], count: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Return BGR crops of photographs, by invented names."""
    crops = {}
    for index in range(count):
        photo = cv2.imread(str(list(photos.values())[index % len(photos)]))
        top, left = (37 * index) % (photo.shape[0] - height), (61 * index) % (photo.shape[1] - width)
        crops[f"image{index:03}"] = photo[top : top + height, left : left + width]
    return crops


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def invent_results(folder: Path, sets: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Write the images of a leaderboard under `folder`, from clean ones by test set and name; return its results."""
    references: dict[str, Any] = {}
    for name, clean in sets.items():
        for image, truth in clean.items():
            small = cv2.resize(truth, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            paths = {kind: f"images/_{kind}/{name}/{image}.png" for kind in ("input", "truth")}
            write(folder / paths["truth"], truth)
            large = cv2.resize(small, truth.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            write(folder / paths["input"], large)
            references.setdefault(name, {})[image] = paths
    return {
        "title": "Super-resolution x4",
        "task": "sr",
        "protocol": {
            "name": "sr_y_crop",
            "version": 1,
            "description": "MATLAB's bicubic at 8 bit; PSNR and SSIM on the unrounded Y, 4 border pixels cropped.",
        },
        "metrics": METRICS,
        "costs": [asdict(column) for column in COSTS],
        "cost_size": [3, 64, 64],
        "test_sets": [{"name": name, "images": len(clean), "condition": "x4"} for name, clean in sets.items()],
        "environment": {
            "date": "2026-01-31 12:00 UTC",
            "device": "an invented device",
            "commit": "0123abc",
            "command": "basicsr leaderboard -opt options/leaderboard_SRx4.yml",
            "versions": {"torch": "2.13.0", "semanir_plugin": "0.1.0"},
        },
        "rows": [
            *(_measured(folder, index, model, sets) for index, model in enumerate(MODELS)),
            *(_published(row, sets) for row in PUBLISHED),
        ],
        "references": references,
    }


def _measured(folder: Path, index: int, model: tuple[str, float, int, float, float], sets: Any) -> dict[str, Any]:
    name, blur, parameters, mult_adds, milliseconds = model
    return {
        "model": name,
        "kind": "measured",
        "source": None,
        "parameters": parameters,
        "mult_adds": mult_adds,
        "time_ms": milliseconds,
        "time_low_ms": 0.93 * milliseconds,
        "time_high_ms": 1.2 * milliseconds,
        "processor_time_ms": 1.8 * milliseconds,
        "disturbed": False,
        "memory_mib": 20 + milliseconds,
        "cells": {each: _cell(folder, index, blur, each, clean) for each, clean in sets.items()},
    }


def _cell(folder: Path, index: int, blur: float, test_set: str, clean: dict[str, np.ndarray]) -> dict[str, Any]:
    images = []
    for name, truth in clean.items():
        output = cv2.GaussianBlur(truth, (0, 0), blur)
        path = f"images/row{index}/{test_set}/{name}.png"
        write(folder / path, output)
        psnr = float(cv2.PSNR(truth, output))
        images.append({"name": name, "scores": {"psnr": psnr, "ssim": 1 - 1.7 / psnr}, "output": path})
    means = {metric: float(np.mean([image["scores"][metric] for image in images])) for metric in ("psnr", "ssim")}
    return {"scores": means, "error": None, "images": images}


def _published(row: tuple[str, int, float], sets: Any) -> dict[str, Any]:
    name, parameters, gain = row
    return {
        "model": name,
        "kind": "published",
        "source": "README of the authors' repository",
        **NO_COST,
        "parameters": parameters,
        "cells": {
            each: {"scores": {"psnr": 31 + gain, "ssim": 0.9 + gain / 100}, "error": None, "images": []}
            for each in sets
        },
    }
