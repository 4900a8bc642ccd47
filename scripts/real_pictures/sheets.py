"""Sheets to look at: of each picture a part, enlarged without smoothing: truth, bicubic, network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from real_pictures.scoring import Restored
from semanir_plugin.pixels import Image as Pixels

__all__ = ["write_sheet"]

PART = 120  # pixels a side
ZOOM = 3
LABEL = 18  # pixels high
LARGEST = 12  # pictures on a sheet


def write_sheet(path: Path, pictures: Sequence[Restored]) -> None:
    """Write a sheet of the first pictures: a row for each, where most is to be seen in it."""
    rows = [_row(each) for each in pictures[:LARGEST]]
    Image.fromarray(np.vstack(rows)).save(path)


def _row(picture: Restored) -> Pixels:
    top, left = _busiest(picture.truth)
    shown = {"truth": picture.truth, **picture.results}
    parts = [_enlarged(each[top : top + PART, left : left + PART]) for each in shown.values()]
    told = [f"{picture.name}: truth", *(f"{name}, {each.psnr:.2f} dB" for name, each in picture.scores.items())]
    return np.vstack([_labels(told), np.hstack(parts)])


def _enlarged(part: Pixels) -> Pixels:
    canvas = np.full((PART, PART, 3), 128, np.uint8)
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas.repeat(ZOOM, 0).repeat(ZOOM, 1)


def _labels(texts: Sequence[str]) -> Pixels:
    image = Image.new("RGB", (len(texts) * PART * ZOOM, LABEL), "white")
    draw = ImageDraw.Draw(image)
    for number, text in enumerate(texts):
        draw.text((number * PART * ZOOM + 3, 2), text, fill="black", font=ImageFont.load_default(12))
    return np.asarray(image)


def _busiest(truth: Pixels) -> tuple[int, int]:
    """Return the upper left of the part with the most edges."""
    gray = cv2.cvtColor(truth, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = np.minimum(np.abs(cv2.Laplacian(gray, cv2.CV_32F)), 40)
    sums = cv2.boxFilter(edges, -1, (PART, PART), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    within = sums[: max(1, truth.shape[0] - PART + 1), : max(1, truth.shape[1] - PART + 1)]
    row, column = np.unravel_index(int(within.argmax()), within.shape)
    return int(row), int(column)
