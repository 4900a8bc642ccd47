"""MATLAB's bicubic resizing, by which the inputs of super-resolution benchmarks are made."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.pixels import FloatImage, Image, to_uint8

__all__ = [
    "BicubicVariant",
    "bicubic_taps",
    "downsample_bicubic",
    "imresize",
    "imresize_uint8",
    "keys_cubic",
    "least_side",
]

BicubicVariant = Literal["matlab", "basicsr"]

_SUPPORT = 4  # pixels that the kernel spans where it is not widened against aliasing


def imresize(image: FloatImage, scale: float) -> FloatImage:
    """Resize as MATLAB's `imresize(image, scale)`: bicubic, widened against aliasing when the image gets smaller.

    Args:
        image: (H, W) or (H, W, C), in any range.
        scale: Factor of both sides, above 0.

    Returns:
        (ceil(H scale), ceil(W scale)) or with C as well, neither clipped nor rounded.
    """
    return _resize_axis(_resize_axis(np.asarray(image, np.float32), scale, 0), scale, 1)


def imresize_uint8(image: Image, scale: float) -> Image:
    """Resize 8 bit as MATLAB's `imresize(image, scale)` does, to the bit: each of its two passes is rounded.

    The first pass is vertical. Both are of double precision, clipped, and rounded with ties upwards. LR images of the
    benchmarks (Set5, BSD100, Urban100) are made so; those of `imresize`, rounded once, differ from them in 11 to 15 %
    of the pixels by up to 5.

    Args:
        image: (H, W) or (H, W, C).
        scale: Factor of both sides, above 0.

    Returns:
        (ceil(H scale), ceil(W scale)) or with C as well.
    """
    for axis in (0, 1):
        resized = _resize_axis(image.astype(np.float64), scale, axis)
        image = np.clip(np.floor(resized + 0.5), 0, 255).astype(np.uint8)
    return image


def _resize_axis(image: NDArray[Any], scale: float, axis: int) -> NDArray[Any]:
    """Resize along an axis, in the precision of the image."""
    weights, sources = bicubic_taps(image.shape[axis], scale)
    along = np.expand_dims(weights.astype(image.dtype), tuple(range(2, 1 + image.ndim - axis)))  # (taps, out, 1, ...)
    resized: NDArray[Any] = along[0] * image.take(sources[0], axis)
    for weight, source in zip(along[1:], sources[1:], strict=True):
        resized += weight * image.take(source, axis)
    return resized


@lru_cache(maxsize=32)
def bicubic_taps(length: int, scale: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the weights and positions of the pixels of a line that make each pixel of the resized line.

    The kernel is that of Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -1/2.
    Beyond its ends a line goes on as in a mirror, the pixel at the end being repeated.

    Args:
        length: Pixels of the line.
        scale: Factor.

    Returns:
        Weights and the positions they apply to, both (taps, ceil(length scale)). Not to be written to.
    """
    stretch = max(1.0, 1 / scale)
    centres = (np.arange(ceil(length * scale)) + 0.5) / scale - 0.5
    first = np.floor(centres - _SUPPORT * stretch / 2)
    positions = first + np.arange(ceil(_SUPPORT * stretch) + 2)[:, None]  # (taps, out)
    weights = keys_cubic((centres - positions) / stretch)
    weights /= weights.sum(0)
    used = weights.any(1)
    sources = positions[used].astype(np.int64) % (2 * length)
    return weights[used], np.minimum(sources, 2 * length - 1 - sources)


def keys_cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of Keys' kernel with a = -1/2, by distances in pixels."""
    x = np.abs(distances)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.select([x <= 1, x <= 2], [near, far])


def downsample_bicubic(image: FloatImage, scale: int, variant: BicubicVariant = "matlab") -> Image:
    """Downsample to 8 bit by MATLAB's bicubic, with its antialiasing.

    Args:
        image: (H, W, C) in [0, 1], both sides multiples of `scale` and at least `least_side(scale)`.
        scale: Factor.
        variant: "matlab": as `imresize_uint8`, of the image at 8 bit. "basicsr": in floats, rounded once, as BasicSR
            and whoever trained with it.

    Returns:
        (H / scale, W / scale, C).
    """
    if variant == "matlab":
        return imresize_uint8(to_uint8(image), 1 / scale)
    return to_uint8(imresize(image, 1 / scale))


def least_side(scale: int) -> int:
    """Return the least side of an image to downsample: on a smaller one, the kernel covers more mirror than image."""
    return 2 * scale
