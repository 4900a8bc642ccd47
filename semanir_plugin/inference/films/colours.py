"""Pictures of films and pixels of photographs: Y'CbCr of any depth, range and matrix, and RGB of 16 bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coding", "guess_matrix", "to_planes", "to_rgb"]

Plane = NDArray[Any]
Floats = NDArray[Any]  # of float32

BT709, BT601 = 1, 6
UNTOLD = (2, 3)
WEIGHTS = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 BG
    BT601: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, of non-constant luminance
}
"""Shares of red and blue in the luma, by the numbers of ITU-T H.273."""

HALF = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)
QUARTER = (-9 / 128, 111 / 128, 29 / 128, -3 / 128)
"""Weights of Keys' cubic in the middle between two samples, and a quarter of the way."""

HALF_BAND = (-1 / 32, 0.0, 9 / 32, 16 / 32, 9 / 32, 0.0, -1 / 32)
"""Weights that leave of a line what half as many samples can hold."""

WHITE = 65535


@dataclass(frozen=True, kw_only=True)
class Coding:
    """What the samples of a film's pictures mean.

    Attributes:
        matrix: A key of `WEIGHTS`.
        full: Whether samples use all values that their depth has, and not those from 16 to 235 of 255.
        depth: Bits of a sample.
        across: Luma samples for each chroma sample, from left to right: 1 or 2.
        down: The same from top to bottom.
    """

    matrix: int
    full: bool
    depth: int
    across: int
    down: int

    @property
    def luma(self) -> tuple[float, float]:
        """The value of black, and by how much white is above it."""
        if self.full:
            return 0.0, float(2**self.depth - 1)
        return 16.0 * 2 ** (self.depth - 8), 219.0 * 2 ** (self.depth - 8)

    @property
    def chroma(self) -> tuple[float, float]:
        """The value of gray, and the span of colour differences."""
        span = 2**self.depth - 1 if self.full else 224 * 2 ** (self.depth - 8)
        return float(2 ** (self.depth - 1)), float(span)


def guess_matrix(width: int, height: int) -> int:
    """Return the matrix that players take for a film of this size that tells none."""
    return BT709 if width > 1024 or height > 576 else BT601


def to_rgb(planes: tuple[Plane, Plane, Plane], coding: Coding) -> NDArray[np.uint16]:
    """Return (H, W, 3) of planes Y', Cb and Cr, the latter smaller by `across` and `down`.

    Chroma samples lie on every second luma column, and between two rows, as in MPEG; at full range between columns, as
    in JPEG. Those between them are interpolated cubically. What lies beyond black and white is clipped.
    """
    (black, white), (gray, span), (red, blue) = coding.luma, coding.chroma, WEIGHTS[coding.matrix]
    luma = (planes[0].astype(np.float32) - black) / white
    cb, cr = (_enlarged((plane.astype(np.float32) - gray) / span, luma.shape, coding) for plane in planes[1:])
    rgb = np.empty((*luma.shape, 3), np.float32)
    rgb[..., 0] = luma + 2 * (1 - red) * cr
    rgb[..., 2] = luma + 2 * (1 - blue) * cb
    rgb[..., 1] = (luma - red * rgb[..., 0] - blue * rgb[..., 2]) / (1 - red - blue)
    return np.round(rgb.clip(0, 1) * WHITE).astype(np.uint16)


def to_planes(pixels: NDArray[np.uint16], coding: Coding) -> tuple[Plane, Plane, Plane]:
    """Return the planes Y', Cb and Cr of (H, W, 3) RGB, or of (H, W, 1) gray; the inverse of `to_rgb`."""
    (black, white), (gray, span), (red, blue) = coding.luma, coding.chroma, WEIGHTS[coding.matrix]
    rgb = pixels.astype(np.float32) / WHITE
    r, g, b = (rgb[..., min(channel, rgb.shape[2] - 1)] for channel in range(3))
    luma = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - luma) / (2 * (1 - blue)), (r - luma) / (2 * (1 - red))
    chroma = (_rounded(_reduced(each, coding) * span + gray, coding.depth) for each in (cb, cr))
    return (_rounded(luma * white + black, coding.depth), *chroma)  # type: ignore[return-value]


def _rounded(plane: Floats, depth: int) -> Plane:
    return np.round(plane).clip(0, 2**depth - 1).astype(np.uint8 if depth == 8 else np.uint16)


def _enlarged(plane: Floats, shape: tuple[int, ...], coding: Coding) -> Floats:
    if coding.down == 2:
        plane = _between(plane)
    if coding.across == 2:
        plane = (_between if coding.full else _on_even)(plane.T).T
    return plane[: shape[0], : shape[1]]


def _reduced(plane: Floats, coding: Coding) -> Floats:
    if coding.down == 2:
        plane = _mean_of_pairs(plane)
    if coding.across == 2:
        plane = (_mean_of_pairs if coding.full else _around_even)(plane.T).T
    return plane


def _between(plane: Floats) -> Floats:
    """Double the rows of samples that lie in the middle between two."""
    doubled = np.empty((2 * len(plane), plane.shape[1]), np.float32)
    doubled[0::2], doubled[1::2] = _weighted(plane, QUARTER[::-1], -2), _weighted(plane, QUARTER, -1)
    return doubled


def _on_even(plane: Floats) -> Floats:
    """Double the rows of samples that lie on every second one."""
    doubled = np.empty((2 * len(plane), plane.shape[1]), np.float32)
    doubled[0::2], doubled[1::2] = plane, _weighted(plane, HALF, -1)
    return doubled


def _mean_of_pairs(plane: Floats) -> Floats:
    return _weighted(plane, HALF, -1)[0::2]


def _around_even(plane: Floats) -> Floats:
    return _weighted(plane, HALF_BAND, -3)[0::2]


def _weighted(plane: Floats, weights: tuple[float, ...], first: int) -> Floats:
    """Return for each row the weighted sum of those from `first` rows on; beyond its ends a plane repeats them."""
    framed = np.pad(plane, ((-first, first + len(weights) - 1), (0, 0)), mode="edge")
    total = np.zeros_like(plane)
    for row, weight in enumerate(weights):
        total += np.float32(weight) * framed[row : row + len(plane)]
    return total
