"""MATLAB's bicubic downsampling."""

from __future__ import annotations

import numpy as np
from basicsr.utils.matlab_functions import imresize

from semanir_plugin.pixels import FloatImage, Image, to_uint8

__all__ = ["downsample_bicubic", "least_side"]


def downsample_bicubic(image: FloatImage, scale: int) -> Image:
    """Downsample as MATLAB's `imresize` does, with its antialiasing, and round to 8 bit.

    Args:
        image: (H, W, C) in [0, 1], both sides multiples of `scale` and at least `least_side(scale)`.
        scale: Factor.

    Returns:
        (H / scale, W / scale, C).
    """
    return np.ascontiguousarray(to_uint8(imresize(image, 1 / scale)))  # OpenCV flips no transposed memory in place


def least_side(scale: int) -> int:
    """Return the least side of an image to downsample: half the kernel is mirrored at the border."""
    return 2 * scale
