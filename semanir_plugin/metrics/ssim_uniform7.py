"""The SSIM that scikit-image gives by default, which papers on raindrops and haze report."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.metrics.images import InputOrder, prepare
from semanir_plugin.metrics.similarity import ssim_map
from semanir_plugin.registry import METRICS

__all__ = ["calculate_ssim_uniform7"]

_WINDOW = 7
_PIXELS = _WINDOW**2


@METRICS.register
def calculate_ssim_uniform7(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    better: Literal["higher"] = "higher",
) -> float:
    """Return the SSIM with uniform windows of 7 x 7 and sample covariances, the mean of the channels' values.

    AST's scripts for raindrops and haze (CVPR 2024) call scikit-image so, on images that are not rounded.

    Args:
        img: In [0, 255], (H, W, C), (C, H, W) or (H, W).
        img2: The ground truth.
        crop_border: Pixels that are left out at each border.
        input_order: "HWC" or "CHW".
        better: For BasicSR, which passes it on.

    Returns:
        The mean over the pixels whose window lies within the image, at most 1.

    Raises:
        ValueError: The shapes differ, or less than a window is left within the border.
    """
    pair = prepare(img, img2, crop_border=crop_border, input_order=input_order)
    if min(pair[0].shape[:2]) < _WINDOW:
        raise ValueError(f"{_WINDOW} x {_WINDOW} pixels are needed, got {pair[0].shape[0]} x {pair[0].shape[1]}")
    return float(ssim_map(*pair, _average, correction=_PIXELS / (_PIXELS - 1)).mean())


def _average(image: NDArray[np.float64]) -> NDArray[np.float64]:
    border = _WINDOW // 2
    return np.asarray(cv2.blur(image, (_WINDOW, _WINDOW)), np.float64)[border:-border, border:-border]
