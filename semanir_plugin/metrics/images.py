"""Prepare images for metrics, in the conventions of BasicSR's."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.color import luma_bgr

__all__ = ["InputOrder", "prepare"]

InputOrder = Literal["HWC", "CHW"]


def prepare(
    img: NDArray[Any],
    img2: NDArray[Any],
    *,
    crop_border: int,
    input_order: InputOrder,
    test_y_channel: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both images in the range [0, 255], (H, W, C), cropped, and if asked for as the Y of YCbCr.

    Raises:
        ValueError: The shapes differ, nothing is left within the border, or there is no such order.
    """
    if img.shape != img2.shape:
        raise ValueError(f"the images differ in shape: {img.shape} and {img2.shape}")
    pair = [_to_hwc(image, input_order) for image in (img, img2)]
    height, width = pair[0].shape[:2]
    if min(height, width) <= 2 * crop_border:
        raise ValueError(f"nothing is left of {height} x {width} pixels without {crop_border} at each border")
    pair = [image[crop_border : height - crop_border, crop_border : width - crop_border] for image in pair]
    first, second = (_to_y(image) if test_y_channel else image for image in pair)
    return first.astype(np.float64), second.astype(np.float64)


def _to_hwc(image: NDArray[Any], input_order: InputOrder) -> NDArray[Any]:
    if input_order not in get_args(InputOrder):
        raise ValueError(f"input_order must be one of {', '.join(get_args(InputOrder))}, not {input_order!r}")
    if image.ndim == 2:
        return image[..., None]
    return image if input_order == "HWC" else image.transpose(1, 2, 0)


def _to_y(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the Y of a colour image (H, W, 1), not rounded; in fp32, as BasicSR's metrics and so published scores."""
    fractions = image.astype(np.float32) / np.float32(255)
    if image.shape[2] == 3:
        fractions = (luma_bgr(fractions)[..., None] / 255).astype(np.float32)
    return fractions * np.float32(255)
