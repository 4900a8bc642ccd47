"""Partition token maps into windows, and label the regions that a cyclic shift creates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from semanir_plugin.ops.common.portable import is_known, remainder

__all__ = [
    "CutWindows",
    "WindowGrid",
    "Windows",
    "shift_along",
    "shifted_regions",
    "window_partition",
    "window_reverse",
]


class Windows(Protocol):
    """Source of windows of tokens and of their regions, from which attention makes its context."""

    def partition(self, x: Tensor) -> Tensor:
        """Return the windows of tokens, (B * windows, N, C)."""

    def regions(self, device: torch.device) -> Tensor | None:
        """Return a label per token, (windows, N): tokens with different labels must not attend to each other."""


@dataclass(frozen=True)
class WindowGrid:
    """Grid of windows on a token map.

    Attributes:
        size: Side of the windows in tokens.
        height: Rows of the map, a multiple of `size`.
        width: Columns of the map, a multiple of `size`.
        shift: By how many rows and columns the windows are shifted.
    """

    size: int
    height: int
    width: int
    shift: tuple[int, int] = (0, 0)

    def partition(self, x: Tensor) -> Tensor:
        """Cut (B, height, width, C) into windows, (B * windows, N, C)."""
        return window_partition(x, self.size, self.shift)

    def reverse(self, windows: Tensor) -> Tensor:
        """Undo `partition`."""
        return window_reverse(windows, self.size, self.height, self.width, self.shift)

    def regions(self, device: torch.device) -> Tensor | None:
        """Return `shifted_regions`, (windows, N), or None where nothing is shifted."""
        if not _may_shift(self.shift):
            return None
        return shifted_regions(self.height, self.width, self.size, self.shift, device)


@dataclass(frozen=True, eq=False)
class CutWindows:
    """Windows that a network has partitioned already, (B * windows, N, C).

    Attributes:
        labels: (windows, N), see `Windows.regions`; None: every token of a window may attend to every other.
    """

    labels: Tensor | None = None

    def partition(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def regions(self, device: torch.device) -> Tensor | None:
        """Return the labels."""
        return self.labels


def shift_along(length: int, size: int, shift: int) -> int:
    """Return by how many tokens windows are shifted along an axis: not at all where one window sees all of it.

    Args:
        length: Tokens of the axis, a multiple of `size`.
        size: Side of the windows.
        shift: By how many they are where there are several.
    """
    # size // length is 1 of one window, else 0: no branch, since the length may be a symbol of an exporter.
    return shift * (1 - size // length) if shift else 0


def window_partition(x: Tensor, size: int, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Cut (B, H, W, C), H and W multiples of `size`, into (B * windows, size * size, C) after a cyclic shift."""
    if _may_shift(shift):
        x = _roll(x, (-shift[0], -shift[1]))
    return rearrange(x, "b (h i) (w j) c -> (b h w) (i j) c", i=size, j=size)


def window_reverse(windows: Tensor, size: int, height: int, width: int, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Undo `window_partition`: (B * windows, size * size, C) to (B, height, width, C)."""
    x = rearrange(windows, "(b h w) (i j) c -> b (h i) (w j) c", h=height // size, w=width // size, i=size)
    return _roll(x, shift) if _may_shift(shift) else x


def shifted_regions(height: int, width: int, size: int, shift: tuple[int, int], device: torch.device) -> Tensor:
    """Label which tokens of each shifted window were neighbours before the shift (Swin, section 3.2).

    Returns:
        (windows, size * size) int64; tokens of a window with different labels must not attend to each other.
    """
    # Only the last window of an axis mixes both ends of the image; there the last `shift` tokens came from the front.
    row = (torch.arange(height, device=device) >= height - shift[0]).long()
    column = (torch.arange(width, device=device) >= width - shift[1]).long()
    labels = 2 * row[:, None] + column[None, :]
    return window_partition(labels[None, :, :, None], size).squeeze(-1)


def _may_shift(shift: tuple[int, int]) -> bool:
    """Tell whether anything is shifted, or may be: by a symbol."""
    return any(not is_known(each) or each for each in shift)


def _roll(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """Shift (B, H, W, C) cyclically along H and W."""
    if all(map(is_known, shift)):
        return x.roll(shift, dims=(1, 2))
    for dim, each in enumerate(shift, 1):
        if not is_known(each) or each:
            places = torch.arange(x.shape[dim], device=x.device)
            x = x.index_select(dim, remainder(places - each, x.shape[dim]))
    return x
