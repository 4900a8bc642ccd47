"""The Y of YCbCr as MATLAB's `rgb2ycbcr` has it: ITU-R BT.601, from 16 for black to 235 for white.

OpenCV's `cvtColor` has another one, JPEG's, from 0 to 255.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BLACK", "RGB_TO_Y", "luma_bgr", "luma_rgb"]

RGB_TO_Y = (65.481, 128.553, 24.966)
BLACK = 16


def luma_bgr(image: NDArray[Any]) -> NDArray[np.float64]:
    """Map an image (..., 3) in BGR order, in [0, 1], to its Y (...) in [16, 235], not rounded."""
    result: NDArray[np.float64] = image @ np.array(RGB_TO_Y[::-1]) + BLACK
    return result


def luma_rgb(images: Tensor) -> Tensor:
    """Map images (N, 3, H, W) in RGB order, in [0, 1], to their Y (N, 1, H, W) in [16, 235] / 255."""
    y = images.movedim(1, -1) @ images.new_tensor(RGB_TO_Y) + BLACK  # (N, H, W)
    return y.unsqueeze(1) / 255
