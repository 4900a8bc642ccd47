"""PSNR, and the structural similarity of Wang et al., "Image quality assessment: from error visibility" (TIP 2004)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["gaussian_ssim", "psnr", "ssim_map"]

_RADIUS = 5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_GAUSSIAN = cv2.getGaussianKernel(2 * _RADIUS + 1, 1.5, cv2.CV_64F)


def psnr(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the PSNR in dB of images in [0, 255], over all their values; infinite for equal images."""
    mse = np.mean((x.astype(np.float64) - y) ** 2)
    return float(10 * np.log10(255**2 / mse)) if mse else math.inf


def gaussian_ssim(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the SSIM with Gaussian windows of 11 x 11, sigma 1.5, that lie wholly within the image.

    Args:
        x: (H, W, C) in [0, 255].
        y: The other image.

    Returns:
        The mean over windows and channels, at most 1.

    Raises:
        ValueError: The images are smaller than a window.
    """
    side = 2 * _RADIUS + 1
    if min(x.shape[:2]) < side:
        raise ValueError(f"SSIM needs images of at least {side} x {side} pixels, not {x.shape[0]} x {x.shape[1]}")
    return float(ssim_map(x.astype(np.float64), y.astype(np.float64), _average).mean())


def _average(image: NDArray[np.float64]) -> NDArray[np.float64]:
    averages = np.asarray(cv2.sepFilter2D(image, cv2.CV_64F, _GAUSSIAN, _GAUSSIAN), np.float64)
    return averages[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def ssim_map(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    average: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    correction: float = 1,
) -> NDArray[np.float64]:
    """Return the SSIM of each window, equation 13, with K1 = 0.01 and K2 = 0.03.

    Args:
        x: An image in [0, 255].
        y: The other one.
        average: Gives the mean of an image in each window.
        correction: Factor of variances and covariances; N / (N - 1) makes them those of a sample of N pixels.
    """
    mean_x, mean_y = average(x), average(y)
    variances = correction * (average(x * x) - mean_x**2 + average(y * y) - mean_y**2)
    covariance = correction * (average(x * y) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance * (2 * covariance + _C2) / (variances + _C2)
