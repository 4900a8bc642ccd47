"""Resizing by the filters of image programs, with antialiasing or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.degradations.bicubic import keys_cubic
from semanir_plugin.pixels import FloatImage

__all__ = ["ResizeFilter", "resize"]

ResizeFilter = Literal["area", "bilinear", "bicubic", "lanczos"]


def _box(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(1 - np.abs(x), 0, None), np.float64)


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


_FILTERS: dict[ResizeFilter, tuple[float, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "area": (0.5, _box),
    "bilinear": (1, _triangle),
    "bicubic": (2, keys_cubic),
    "lanczos": (3, _lanczos),
}
"""By name, the pixels that a filter reaches to either side, and its weights by distance in pixels."""


def resize(image: FloatImage, size: tuple[int, int], kind: ResizeFilter, *, antialias: bool = True) -> FloatImage:
    """Resize to any size, as Pillow does with antialiasing, and as OpenCV and browsers often do without.

    Args:
        image: (H, W, C), in any range.
        size: Height and width of the result.
        kind: The filter: "area" averages and repeats pixels, "bicubic" is Keys' with a = -1/2, "lanczos" has 3 lobes.
        antialias: Whether the filter is widened where the image gets smaller.

    Returns:
        (*size, C), neither clipped nor rounded.
    """
    rows, columns = (_weights(*lengths, kind, antialias) for lengths in zip(image.shape, size, strict=False))
    height, width, channels = image.shape
    down = rows @ image.reshape(height, width * channels)
    result: FloatImage = np.matmul(columns, down.reshape(size[0], width, channels))
    return result


def _weights(length: int, new: int, kind: ResizeFilter, antialias: bool) -> FloatImage:
    """Return (new, length): the share that each pixel of a line has in each of the resized line."""
    reach, weigh = _FILTERS[kind]
    stretch = max(1.0, length / new) if antialias else 1.0
    centres = (np.arange(new) + 0.5) * (length / new) - 0.5
    taps = np.floor(centres - reach * stretch)[:, None] + np.arange(int(2 * reach * stretch) + 3)
    weights = weigh((taps - centres[:, None]) / stretch)
    weights *= (taps >= 0) & (taps < length)
    matrix = np.zeros((new, length))
    places = np.clip(taps, 0, length - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(new)[:, None], places), weights)
    return np.asarray(matrix / matrix.sum(1, keepdims=True), np.float32)
