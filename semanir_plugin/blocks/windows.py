"""Cutting token maps into windows, and the regions that a cyclic shift creates."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["merge_windows", "partition_windows", "shifted_regions"]


def partition_windows(x: Tensor, size: int, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Cut (B, H, W, C), H and W multiples of `size`, into (B * windows, size * size, C) after a cyclic shift."""
    if any(shift):
        x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
    b, h, w, c = x.shape
    x = x.view(b, h // size, size, w // size, size, c)
    return x.transpose(2, 3).reshape(-1, size * size, c)  # (B*nW, N, C)


def merge_windows(windows: Tensor, size: int, height: int, width: int, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Undo `partition_windows`: (B * windows, size * size, C) to (B, height, width, C)."""
    c = windows.shape[-1]
    x = windows.view(-1, height // size, width // size, size, size, c)
    x = x.transpose(2, 3).reshape(-1, height, width, c)
    return x.roll(shift, dims=(1, 2)) if any(shift) else x


def shifted_regions(height: int, width: int, size: int, shift: tuple[int, int], device: torch.device) -> Tensor:
    """Label which tokens of each shifted window were neighbours before the shift (Swin, section 3.2).

    Returns:
        (windows, size * size) int64; tokens of a window with different labels must not attend to each other.
    """
    # Only the last window of an axis mixes both ends of the image; there the last `shift` tokens came from the front.
    row = (torch.arange(height, device=device) >= height - shift[0]).long()
    column = (torch.arange(width, device=device) >= width - shift[1]).long()
    labels = 2 * row[:, None] + column[None, :]
    return partition_windows(labels[None, :, :, None], size).squeeze(-1)
