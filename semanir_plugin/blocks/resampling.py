"""Upsample and Downsample by pixel shuffles, and the heads that turn features into a larger image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Downsample",
    "PixelShuffleDirectHead",
    "PixelShuffleHead",
    "Upsample",
    "bilinear_kernel",
    "upsampling_steps",
]

NEGATIVE_SLOPE = 0.01


def upsampling_steps(scale: int) -> list[int]:
    """Split a scale into the factors by which pixel shuffles enlarge in turn: 2, 3, 4 = 2 * 2, 8 = 2 * 2 * 2.

    Raises:
        ValueError: The scale is neither 3 nor a power of two above 1.
    """
    if scale == 3:
        return [3]
    if scale > 1 and scale & (scale - 1) == 0:
        return [2] * (scale.bit_length() - 1)
    raise ValueError(f"upscale must be 2, 3, 4 or 8, got {scale}")


class PixelShuffleHead(nn.Module):
    """Classical SR head: convolution to `hidden`, LeakyReLU, upsampling, convolution to the image.

    Args:
        dim: Channels of the features.
        out_chans: Channels of the image.
        scale: Enlargement, 2, 3, 4 or 8.
        hidden: Channels between.
    """

    def __init__(self, dim: int, out_chans: int, scale: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.conv_before = nn.Conv2d(dim, hidden, 3, padding=1)
        self.upsample = nn.Sequential(*(Upsample(hidden, hidden, step) for step in upsampling_steps(scale)))
        self.conv_last = nn.Conv2d(hidden, out_chans, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, out_chans, scale * H, scale * W)."""
        x = F.leaky_relu(self.conv_before(x), NEGATIVE_SLOPE)
        out: Tensor = self.conv_last(self.upsample(x))
        return out

    @torch.no_grad()
    def init_as_interpolation(self, channels: int) -> None:
        """Let the output be the first `channels` features, all that it has, enlarged bilinearly."""
        c = channels
        both_signs = torch.cat([torch.eye(c), -torch.eye(c)])  # LeakyReLU(x) - LeakyReLU(-x) = (1 + slope) x
        _set_leading_filters(self.conv_before, both_signs, torch.eye(3)[1:2])
        for step in self.upsample.children():
            assert isinstance(step, Upsample)
            step.init_as_interpolation(2 * c)
        self.conv_last.weight.zero_()
        _set_leading_filters(self.conv_last, both_signs.T / (1 + NEGATIVE_SLOPE), torch.eye(3)[1:2])


class Upsample(nn.Module):
    """A 3x3 convolution to scale ** 2 times the channels, and a pixel shuffle to `scale` times the size (SwinIR).

    Args:
        in_chans: Input channels.
        out_chans: Output channels.
        scale: Enlargement.
    """

    def __init__(self, in_chans: int, out_chans: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(in_chans, scale * scale * out_chans, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, out_chans, scale * H, scale * W)."""
        return F.pixel_shuffle(self.conv(x), self.scale)

    @torch.no_grad()
    def init_as_interpolation(self, channels: int) -> None:
        """Let the first output channels be the first input channels, enlarged bilinearly."""
        _set_leading_filters(self.conv, torch.eye(channels), bilinear_kernel(self.scale))


class Downsample(nn.Module):
    """A 3x3 convolution to a quarter of `out_chans`, and a pixel unshuffle that halves the size (Restormer).

    Args:
        in_chans: Input channels.
        out_chans: Output channels, a multiple of 4.
    """

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans // 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, 2 * H, 2 * W) to (B, out_chans, H, W)."""
        return F.pixel_unshuffle(self.conv(x), 2)


class PixelShuffleDirectHead(Upsample):
    """Lightweight SR head: one upsampling step.

    Args:
        dim: Channels of the features.
        out_chans: Channels of the image.
        scale: Enlargement, 2, 3, 4 or 8.
    """

    def __init__(self, dim: int, out_chans: int, scale: int) -> None:
        upsampling_steps(scale)  # the same scales as the classical head
        super().__init__(dim, out_chans, scale)


def bilinear_kernel(scale: int) -> Tensor:
    """Return (scale, 3): how each of `scale` new pixels is made of the left, same and right neighbour of an old one."""
    offsets = (torch.arange(scale) + 0.5) / scale - 0.5
    return torch.stack([(-offsets).clamp_min(0), 1 - offsets.abs(), offsets.clamp_min(0)], dim=1)


def _set_leading_filters(conv: nn.Conv2d, mixing: Tensor, kernel: Tensor) -> None:
    """Set the first filters of a 3x3 convolution to `mixing` (out, in), each times the outer product of `kernel`.

    With a kernel of several rows, each output channel has one filter for every pair of them, as PixelShuffle orders.
    """
    filters = torch.einsum("oi,ay,bx->oabiyx", mixing, kernel, kernel).flatten(0, 2)  # (out * steps ** 2, in, 3, 3)
    out_chans, in_chans = filters.shape[:2]
    conv.weight[:out_chans].zero_()
    conv.weight[:out_chans, :in_chans] = filters
    if conv.bias is not None:
        conv.bias[:out_chans].zero_()
