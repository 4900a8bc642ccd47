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


def upsampling_steps(scale: int, unshuffle: int = 1) -> list[int]:
    """Split a scale into the factors by which pixel shuffles enlarge in turn: 2, 3, 4 = 2 * 2, 8 = 2 * 2 * 2.

    Args:
        scale: Enlargement of the image.
        unshuffle: By what the features are smaller than the image; above 1 it is the first factor, and the scale may
            be 1.

    Raises:
        ValueError: The scale is neither 3 nor a power of two above 1.
    """
    if unshuffle > 1:
        return [unshuffle] + ([] if scale == 1 else upsampling_steps(scale))
    if scale == 3:
        return [3]
    if scale > 1 and scale & (scale - 1) == 0:
        return [2] * (scale.bit_length() - 1)
    raise ValueError(f"upscale must be 2, 3, 4 or 8, or 1 with unshuffle above 1, got {scale}")


class PixelShuffleHead(nn.Module):
    """Classical SR head: convolution to `hidden`, LeakyReLU, upsampling, convolution to the image.

    Args:
        dim: Channels of the features.
        out_chans: Channels of the image.
        scale: Enlargement, 2, 3, 4 or 8; with `unshuffle` above 1 also 1.
        unshuffle: By what the features are smaller than the image that is enlarged.
        hidden: Channels between.
    """

    def __init__(self, dim: int, out_chans: int, scale: int, *, unshuffle: int = 1, hidden: int = 64) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.conv_before = nn.Conv2d(dim, hidden, 3, padding=1)
        steps = upsampling_steps(scale, unshuffle)
        self.upsample = nn.Sequential(*(Upsample(hidden, hidden, step) for step in steps))
        self.conv_last = nn.Conv2d(hidden, out_chans, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, out_chans, s * H, s * W) with s = scale * unshuffle."""
        x = F.leaky_relu(self.conv_before(x), NEGATIVE_SLOPE)
        out: Tensor = self.conv_last(self.upsample(x))
        return out

    @torch.no_grad()
    def init_as_interpolation(self, channels: int) -> None:
        """Let the output be an image of so many channels, all that it has, enlarged bilinearly.

        It is what the first features are, unshuffled where the head is for such.

        Raises:
            ValueError: `hidden` is too small for it.
        """
        packed = channels * self.unshuffle**2
        if 2 * packed > self.conv_before.out_channels:
            raise ValueError(
                f"interpolating_init with unshuffle {self.unshuffle} needs {2 * packed} channels before the upsampling "
                f"of 'pixelshuffle', which has {self.conv_before.out_channels}: take 'pixelshuffledirect'"
            )
        _set_leading_filters(self.conv_before, _both_signs(packed), torch.eye(3)[1:2])
        for step, unshuffle in zip(self.upsample.children(), (self.unshuffle, 1, 1, 1), strict=False):
            assert isinstance(step, Upsample)
            step.init_as_interpolation(2 * channels, unshuffle)
        self.conv_last.weight.zero_()
        _set_leading_filters(self.conv_last, _both_signs(channels).T / (1 + NEGATIVE_SLOPE), torch.eye(3)[1:2])


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
    def init_as_interpolation(self, channels: int, unshuffle: int = 1) -> None:
        """Let the first output channels be the image of the first input channels, enlarged bilinearly.

        Args:
            channels: Those of the image.
            unshuffle: By what the input is smaller than the image: it holds `channels * unshuffle ** 2` of its own.
        """
        _set_leading_filters(self.conv, torch.eye(channels), bilinear_kernel(self.scale, unshuffle))


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
        scale: Enlargement, 2, 3, 4 or 8; with `unshuffle` above 1 also 1.
        unshuffle: By what the features are smaller than the image that is enlarged.
    """

    def __init__(self, dim: int, out_chans: int, scale: int, *, unshuffle: int = 1) -> None:
        upsampling_steps(scale, unshuffle)  # the same scales as the classical head
        super().__init__(dim, out_chans, scale * unshuffle)
        self.unshuffle = unshuffle

    @torch.no_grad()
    def init_as_interpolation(self, channels: int, unshuffle: int = 1) -> None:
        """Let the output be the image of the first features, enlarged bilinearly: see `Upsample`."""
        super().init_as_interpolation(channels, unshuffle * self.unshuffle)


def bilinear_kernel(scale: int, unshuffle: int = 1) -> Tensor:
    """Return how each of `scale` new pixels is made of the `unshuffle` of a cell, and of the cells left and right.

    Args:
        scale: New pixels for a cell, a multiple of `unshuffle`.
        unshuffle: Pixels that a cell holds; 1: it is one.

    Returns:
        (scale, 3, unshuffle): for each new pixel the shares of the pixels of the left, same and right cell.
    """
    at = (torch.arange(scale)[:, None] + 0.5) / (scale // unshuffle) - 0.5
    offset, steps = at - at.round(), torch.arange(-unshuffle, 2 * unshuffle) - at.round()
    shares = torch.where(steps == 0, 1 - offset.abs(), (offset * steps).clamp_min(0))
    return shares.masked_fill(steps.abs() > 1, 0).view(scale, 3, unshuffle)


def _both_signs(channels: int) -> Tensor:
    """Return (2 * channels, channels), the input and its negative: LeakyReLU(x) - LeakyReLU(-x) = (1 + slope) x."""
    return torch.cat([torch.eye(channels), -torch.eye(channels)])


def _set_leading_filters(conv: nn.Conv2d, mixing: Tensor, kernel: Tensor) -> None:
    """Set the first filters of a 3x3 convolution to `mixing` (out, in), each times the outer product of `kernel`.

    With a kernel of several rows, each output channel has one filter for every pair of them, as PixelShuffle orders;
    with one of cells, (rows, 3, side), each input channel is `side ** 2` of the convolution's, as PixelUnshuffle does.
    """
    kernel = kernel.view(*kernel.shape[:2], -1)
    filters = torch.einsum("oi,ayp,bxq->oabipqyx", mixing, kernel, kernel).flatten(3, 5).flatten(0, 2)
    out_chans, in_chans = filters.shape[:2]
    conv.weight[:out_chans].zero_()
    conv.weight[:out_chans, :in_chans] = filters
    if conv.bias is not None:
        conv.bias[:out_chans].zero_()
