"""The x8 geometric self-ensemble."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["restore_eight_ways"]

Restore = Callable[[Tensor], Tensor]

# Each undoes itself; together they make the eight ways to lay a picture on a square grid.
INVOLUTIONS: tuple[Restore, ...] = (
    lambda x: x.flip(-1),
    lambda x: x.flip(-2),
    lambda x: x.transpose(-1, -2).contiguous(),  # networks may view what they are given
)


@torch.no_grad()
def restore_eight_ways(restore: Restore, image: Tensor) -> Tensor:
    """Return the mean of the results of all eight flips and rotations of an image, each undone.

    Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.4.

    Args:
        restore: Maps (B, C, h, w) to (B, C', s * h, s * w); it is given images with h and w exchanged as well.
        image: (B, C, H, W).

    Returns:
        (B, C', s * H, s * W).
    """
    for involution in INVOLUTIONS:
        restore = _averaged(restore, involution)
    return restore(image)


def _averaged(restore: Restore, involution: Restore) -> Restore:
    # Two by two: the mean of eight equal values is that value to the last bit.
    return lambda image: (restore(image) + involution(restore(involution(image)))) / 2
