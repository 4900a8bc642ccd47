"""How the metrics take their images: as BasicSR's do."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from basicsr.metrics.metric_util import reorder_image, to_y_channel
from numpy.typing import NDArray

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
        ValueError: The shapes differ, or nothing is left within the border.
    """
    if img.shape != img2.shape:
        raise ValueError(f"the images differ in shape: {img.shape} and {img2.shape}")
    pair = [reorder_image(image, input_order=input_order) for image in (img, img2)]
    height, width = pair[0].shape[:2]
    if min(height, width) <= 2 * crop_border:
        raise ValueError(f"nothing is left of {height} x {width} pixels without {crop_border} at each border")
    pair = [image[crop_border : height - crop_border, crop_border : width - crop_border] for image in pair]
    first, second = (to_y_channel(image) if test_y_channel else image for image in pair)
    return first.astype(np.float64), second.astype(np.float64)
