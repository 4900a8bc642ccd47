"""The arrays that images are held in, and the ranges of their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FloatImage", "Image", "to_float", "to_uint8"]

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]


def to_float(pixels: NDArray[Any]) -> FloatImage:
    """Map 8 or 16 bit to [0, 1]; floats are returned unchanged."""
    whole = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return pixels.astype(np.float32) / np.float32(whole)


def to_uint8(image: FloatImage) -> Image:
    """Round [0, 1] to 8 bit; what lies outside is clipped."""
    return np.clip(np.round(image * 255), 0, 255).astype(np.uint8)
