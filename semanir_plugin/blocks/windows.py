"""Cutting token maps into windows, and the regions that a cyclic shift creates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["CutWindows", "WindowGrid", "Windows", "shifted_regions", "window_partition", "window_reverse"]


class Windows(Protocol):
    """How tokens come to lie in windows: what attention asks to make its context."""

    def partition(self, x: Tensor) -> Tensor:
        """Return the windows of tokens, (B * windows, N, C)."""

    def regions(self, device: torch.device) -> Tensor | None:
        """Return a label per token, (windows, N): such of different labels must not attend to each other."""


@dataclass(frozen=True)
class WindowGrid:
    """How windows lie on a token map.

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
        if not any(self.shift):
            return None
        return shifted_regions(self.height, self.width, self.size, self.shift, device)


@dataclass(frozen=True, eq=False)
class CutWindows:
    """Windows of tokens that come cut already, (B * windows, N, C).

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


def window_partition(x: Tensor, size: int, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Cut (B, H, W, C), H and W multiples of `size`, into (B * windows, size * size, C) after a cyclic shift."""
    if any(shift):
        x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
    b, h, w, c = x.shape
    x = x.view(b, h // size, size, w // size, size, c)
    return x.transpose(2, 3).reshape(-1, size * size, c)  # (B*nW, N, C)


def window_reverse(windows: Tensor, size: int, height: int, width: int, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Undo `window_partition`: (B * windows, size * size, C) to (B, height, width, C)."""
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
    return window_partition(labels[None, :, :, None], size).squeeze(-1)
