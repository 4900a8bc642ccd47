"""Blur kernels, and blur by them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.pixels import FloatImage

__all__ = ["blur", "gaussian_kernel", "sinc_kernel"]

_STEPS = 128  # of the integral that a Bessel function is; exact to 1e-12 up to arguments of 60


def gaussian_kernel(side: int, sigma: float, across: float | None = None, angle: float = 0.0) -> FloatImage:
    """Return a Gaussian, round or drawn out along a line.

    Args:
        side: Odd number of pixels.
        sigma: Standard deviation in pixels, along the line.
        across: That across the line; by default the same.
        angle: Of the line, in radians.

    Returns:
        (side, side) with sum 1.
    """
    across = sigma if across is None else across
    y, x = _offsets(side)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return _normalise(np.exp(-0.5 * ((u / sigma) ** 2 + (v / across) ** 2)))


def sinc_kernel(side: int, cutoff: float) -> FloatImage:
    """Return the low-pass filter whose pass band is a disc: it rings, as images do that were sharpened or resized.

    Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data" (2021), section 3.4.

    Args:
        side: Odd number of pixels.
        cutoff: Highest frequency that passes, in radians per pixel: pi lets all that a row can hold pass.

    Returns:
        (side, side) with sum 1.
    """
    y, x = _offsets(side)
    squares, places = np.unique(x**2 + y**2, return_inverse=True)
    radii = np.sqrt(squares[1:])
    values = [cutoff**2 / (4 * np.pi), *(cutoff * _bessel_j1(cutoff * radii) / (2 * np.pi * radii))]
    return _normalise(np.array(values)[places.reshape(side, side)])


def blur(image: FloatImage, kernel: FloatImage) -> FloatImage:
    """Blur by a kernel; the image is mirrored at its border.

    Args:
        image: (H, W, C), in any range.
        kernel: (side, side).

    Returns:
        (H, W, C).
    """
    blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.float32).reshape(image.shape)


def _offsets(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:side, :side] - side // 2
    return y.astype(np.float64), x.astype(np.float64)


def _normalise(kernel: NDArray[np.float64]) -> FloatImage:
    return np.asarray(kernel / kernel.sum(), np.float32)


def _bessel_j1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Bessel function of the first kind and order 1, by its integral over a whole period."""
    turn = 2 * np.pi * np.arange(_STEPS) / _STEPS
    result: NDArray[np.float64] = np.cos(turn - x[..., None] * np.sin(turn)).mean(-1)
    return result
