"""PSNR and SSIM on the Y channel as MATLAB gives it for 8 bit images: rounded. Deraining papers report them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.color import BLACK, RGB_TO_Y
from semanir_plugin.metrics.images import InputOrder, prepare
from semanir_plugin.metrics.similarity import gaussian_ssim, psnr
from semanir_plugin.registry import METRICS

__all__ = ["calculate_psnr_y_matlab", "calculate_ssim_y_matlab"]

_THOUSANDTHS = np.rint(1000 * np.array(RGB_TO_Y[::-1])).astype(np.int64)  # exact in integers
_WHOLE = 255 * 1000


@METRICS.register
def calculate_psnr_y_matlab(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    better: Literal["higher"] = "higher",
) -> float:
    """Return the PSNR of the Y channels, rounded to integers as MATLAB's `rgb2ycbcr` does for 8 bit images.

    Args:
        img: In [0, 255], rounded if it is not, (H, W, 3) or (3, H, W), BGR; of one channel it is taken as Y.
        img2: The ground truth.
        crop_border: Pixels that are left out at each border.
        input_order: "HWC" or "CHW".
        better: For BasicSR, which passes it on.

    Returns:
        Decibels; infinite for equal images.

    Raises:
        ValueError: The shapes differ, or nothing is left within the border.
    """
    return psnr(*_y_channels(img, img2, crop_border, input_order))


@METRICS.register
def calculate_ssim_y_matlab(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    better: Literal["higher"] = "higher",
) -> float:
    """Return the SSIM, with Gaussian windows of 11 x 11, of what `calculate_psnr_y_matlab` compares.

    Arguments and errors are those of `calculate_psnr_y_matlab`; 11 x 11 pixels must be left within the border.
    """
    return gaussian_ssim(*_y_channels(img, img2, crop_border, input_order))


def _y_channels(
    img: NDArray[Any], img2: NDArray[Any], crop_border: int, input_order: InputOrder
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both Y channels, (H, W, 1)."""
    first, second = prepare(img, img2, crop_border=crop_border, input_order=input_order)
    return _rounded_y(first), _rounded_y(second)


def _rounded_y(image: NDArray[np.float64]) -> NDArray[np.int64]:
    pixels = np.round(image).astype(np.int64)
    if pixels.shape[2] == 1:
        return pixels
    result: NDArray[np.int64] = ((pixels @ _THOUSANDTHS + _WHOLE // 2) // _WHOLE + BLACK)[..., None]
    return result
