"""Size requirements of networks, and the one way to pad images to them and crop back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semanir_plugin.ops.common.portable import remainder, surely_equal

__all__ = ["SizeRequirements", "check_images", "crop_to", "pad_to_multiple", "reflect_indices"]


@dataclass(frozen=True)
class SizeRequirements:
    """The image sizes that a network accepts.

    Attributes:
        minimum: Smallest height and width in pixels.
        multiple_of: Height and width are padded to a multiple of this.
        square: Whether height and width must be equal.
    """

    minimum: int = 1
    multiple_of: int = 1
    square: bool = False

    def pad(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W) images at the bottom and right to a size that fits, by reflection."""
        height, width = (self._padded(size) for size in x.shape[-2:])
        if self.square:
            height = width = max(height, width)
        return pad_to(x, height, width)

    def check(self, x: Tensor) -> None:
        """Raise ValueError where the (B, C, H, W) image `x` is too small."""
        height, width = x.shape[-2:]
        if height < self.minimum or width < self.minimum:
            raise ValueError(f"images must be at least {self.minimum} x {self.minimum} pixels, got {height} x {width}")

    def _padded(self, size: int) -> int:
        least, padded = (_round_up(each, self.multiple_of) for each in (self.minimum, size))
        # Any multiple will do for most networks: no branch on what may be a symbol of an exporter.
        return padded if least <= self.multiple_of else max(padded, least)


def check_images(x: Tensor, channels: int) -> None:
    """Raise ValueError unless `x` is (B, channels, H, W): others could be broadcast to what looks like images."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"images must be (B, {channels}, H, W) for this network, got {tuple(x.shape)}")


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad a (B, C, H, W) image at the bottom and right to a multiple, by reflection without repeating the edge.

    Unlike `torch.nn.functional.pad`, the padding may be larger than the image: reflection then goes back and forth.
    """
    height, width = (_round_up(size, multiple) for size in x.shape[-2:])
    return pad_to(x, height, width)


def pad_to(x: Tensor, height: int, width: int) -> Tensor:
    """Pad (B, C, H, W) images at the bottom and right to a size, by reflection as `pad_to_multiple` does."""
    for dim, target in ((-2, height), (-1, width)):
        if not surely_equal(target, x.shape[dim]):
            x = x.index_select(dim, reflect_indices(x.shape[dim], target, x.device))
    return x


def reflect_indices(size: int, target: int, device: torch.device) -> Tensor:
    """Return the positions within `size` pixels that stand at each of `target` after padding, (target,)."""
    period = 2 * (size - 1) + 1 // size  # at least 1; no branch, since the size may be a symbol of an exporter
    phase = remainder(torch.arange(target, device=device), period)
    return torch.minimum(phase, period - phase).clamp_max(size - 1)


def _round_up(size: int, multiple: int) -> int:
    """Return the least multiple that is not below a size, by a division of what is not negative.

    Programs that run exported networks round other quotients towards zero.
    """
    return (size + multiple - 1) // multiple * multiple


def crop_to(x: Tensor, height: int, width: int) -> Tensor:
    """Undo `pad_to_multiple`: keep the top left `height` x `width` of (B, C, H, W)."""
    return x[..., :height, :width]
