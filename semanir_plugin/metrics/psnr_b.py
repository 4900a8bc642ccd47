"""PSNR-B, for images that were JPEGs."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.metrics.images import InputOrder, prepare
from semanir_plugin.registry import METRICS

__all__ = ["calculate_psnr_b"]

_BLOCK = 8


@METRICS.register
def calculate_psnr_b(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    test_y_channel: bool = False,
    better: Literal["higher"] = "higher",
) -> float:
    """Return the PSNR with the blocking effect added to the error.

    Yim and Bovik, "Quality assessment of deblocked images" (TIP 2011), equations 5 to 13, with blocks of 8 x 8 from the
    corner of the image as it was before cropping. Of colours it is the mean of the channels' values.

    Args:
        img: The restored image, whose blocks are looked for; in [0, 255], (H, W, C), (C, H, W) or (H, W), BGR.
        img2: The ground truth.
        crop_border: Pixels that are left out at each border.
        input_order: "HWC" or "CHW".
        test_y_channel: Compare the Y of YCbCr, not rounded.
        better: For BasicSR, which passes it on.

    Returns:
        Decibels; infinite for equal images without visible blocks.

    Raises:
        ValueError: The shapes differ, or nothing is left within the border.
    """
    pair = prepare(img, img2, crop_border=crop_border, input_order=input_order, test_y_channel=test_y_channel)
    mse = ((pair[0] - pair[1]) ** 2).mean(axis=(0, 1))
    errors = mse + np.array([_blocking_effect(channel, crop_border) for channel in np.moveaxis(pair[0], -1, 0)])
    with np.errstate(divide="ignore"):
        return float((10 * np.log10(255**2 / errors)).mean())


def _blocking_effect(image: NDArray[np.float64], offset: int) -> float:
    """Return the blocking effect factor of one channel that begins `offset` pixels within its first block."""
    steps = [np.diff(image, axis=axis) ** 2 for axis in (0, 1)]
    at_edges = [(np.arange(1, side) + offset) % _BLOCK == 0 for side in image.shape]
    across = np.concatenate([steps[0][at_edges[0]].ravel(), steps[1][:, at_edges[1]].ravel()])
    within = np.concatenate([steps[0][~at_edges[0]].ravel(), steps[1][:, ~at_edges[1]].ravel()])
    if not across.size or not within.size or across.mean() <= within.mean():
        return 0.0
    return math.log2(_BLOCK) / math.log2(min(image.shape)) * float(across.mean() - within.mean())
