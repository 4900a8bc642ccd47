"""Ground that is flat in the input stays as it is: the white of a screenshot gets no specks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["keep_flat_ground"]


def keep_flat_ground(restored: Tensor, image: Tensor, scale: int) -> Tensor:
    """Replace what was restored of ground without any detail by that ground.

    Args:
        restored: (B, C, scale * H, scale * W).
        image: The input, (B, C, H, W). Flat are its pixels that equal all eight around them, in every channel.
        scale: Factor of the sizes, a whole number.

    Returns:
        (B, C, scale * H, scale * W).
    """
    highest, lowest = (sign * F.max_pool2d(sign * image, 3, stride=1, padding=1) for sign in (1, -1))
    flat = (highest == lowest).all(1, keepdim=True).to(image.dtype)
    flat, image = (F.interpolate(each, scale_factor=float(scale), mode="nearest") for each in (flat, image))
    return torch.where(flat > 0, image, restored)
