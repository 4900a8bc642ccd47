"""The SSIM of RGB images that MATLAB's `ssim` gives, which deblurring papers report."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.metrics.images import InputOrder, prepare
from semanir_plugin.metrics.similarity import ssim_map
from semanir_plugin.registry import METRICS

__all__ = ["calculate_ssim_rgb3d"]

_RADIUS = 5
_KERNEL = cv2.getGaussianKernel(2 * _RADIUS + 1, 1.5, cv2.CV_64F)


@METRICS.register
def calculate_ssim_rgb3d(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    better: Literal["higher"] = "higher",
) -> float:
    """Return the SSIM of two RGB images as volumes: windows reach over the channels, and over the border.

    MATLAB's `ssim` takes an (H, W, 3) array for a volume: its Gaussian windows, sigma 1.5, are 11 x 11 x 11, values
    beyond the border are those at the border, and every pixel counts. BasicSR's `calculate_ssim` is another measure.

    Args:
        img: In [0, 255], (H, W, 3) or (3, H, W).
        img2: The ground truth.
        crop_border: Pixels that are left out at each border.
        input_order: "HWC" or "CHW".
        better: For BasicSR, which passes it on.

    Returns:
        The mean over all pixels and channels, at most 1.

    Raises:
        ValueError: The shapes differ, they have not three channels, or nothing is left within the border.
    """
    x, y = prepare(img, img2, crop_border=crop_border, input_order=input_order)
    if x.shape[2] != 3:
        raise ValueError(f"the images must have 3 channels, not {x.shape[2]}; of gray ones use calculate_ssim")
    return float(ssim_map(x, y, _average).mean())


def _average(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    planes = cv2.sepFilter2D(volume, cv2.CV_64F, _KERNEL, _KERNEL, borderType=cv2.BORDER_REPLICATE)
    return planes @ _CHANNEL_WEIGHTS


def _weigh_channels() -> NDArray[np.float64]:
    """Return the weight of each channel (rows) in the average around each (columns), (3, 3)."""
    weights = np.zeros((3, 3))
    for channel in range(3):
        for offset, weight in zip(range(-_RADIUS, _RADIUS + 1), _KERNEL.ravel(), strict=True):
            weights[min(max(channel + offset, 0), 2), channel] += weight
    return weights


_CHANNEL_WEIGHTS = _weigh_channels()
