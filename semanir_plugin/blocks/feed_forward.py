"""Feed-forward networks of transformer layers."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from semanir_plugin.blocks.linear import Linear
from semanir_plugin.blocks.row_chunking import map_row_chunks
from semanir_plugin.ops.gelu import gelu
from semanir_plugin.ops.linear import linear

__all__ = ["FEED_FORWARDS", "FRFN", "GELU", "FeedForwardKind", "LeFF", "Mlp", "build_feed_forward", "init_linear"]


class GELU(nn.GELU):
    """PyTorch's GELU, on CPUs by a quicker kernel: see `ops.gelu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map a tensor to the same shape."""
        return gelu(input) if self.approximate == "none" else super().forward(input)


class Mlp(nn.Sequential):
    """Linear, GELU, Linear on the last dimension.

    Args:
        dim: Input and output channels.
        hidden: Channels between the two layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(Linear(dim, hidden), GELU(), Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        out: Tensor = super().forward(x)
        return out


class LeFF(nn.Module):
    """Feed-forward network with a depthwise 3x3 convolution in the middle (Uformer, CVPR 2022, section 3.2).

    Args:
        dim: Input and output channels.
        hidden: Channels between the two linear layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to (B, H, W, dim)."""
        return map_row_chunks(_leff_rows, x, *_parameters(self), width=self.dwconv.out_channels)


class FRFN(nn.Module):
    """Feature refinement feed-forward network (AST, CVPR 2024, section 3.3).

    A 3x3 convolution on a quarter of the channels; then two halves of a linear layer, of which one passes a depthwise
    3x3 convolution and is gated by the other.

    Args:
        dim: Input and output channels.
        hidden: Channels of each half.

    Raises:
        ValueError: There are fewer than 4 channels.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        if dim < 4:
            raise ValueError(f"an FRFN needs at least 4 channels, got {dim}")
        self.partial_conv = nn.Conv2d(dim // 4, dim // 4, 3, padding=1, bias=False)
        self.expand = Linear(dim, 2 * hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to (B, H, W, dim)."""
        quarter = self.partial_conv.in_channels
        refined = rearrange(self.partial_conv(rearrange(x[..., :quarter], "b h w c -> b c h w")), "b c h w -> b h w c")
        x = torch.cat([refined, x[..., quarter:].to(refined.dtype)], dim=-1)
        return map_row_chunks(_frfn_rows, x, *_parameters(self), width=self.dwconv.out_channels)


# By the names that options give them.
FeedForwardKind = Literal["mlp", "frfn", "leff"]

FEED_FORWARDS: dict[str, type[FRFN | LeFF | Mlp]] = {"frfn": FRFN, "leff": LeFF, "mlp": Mlp}


def build_feed_forward(kind: str, dim: int, mlp_ratio: float) -> FRFN | LeFF | Mlp:
    """Return the feed-forward network of that kind, `mlp_ratio` times as wide inside.

    Raises:
        ValueError: There is no such kind, or it needs more channels.
    """
    if kind not in FEED_FORWARDS:
        raise ValueError(f"unknown feed-forward network {kind!r}: it is one of {list(FEED_FORWARDS)}")
    return FEED_FORWARDS[kind](dim, int(dim * mlp_ratio))


def init_linear(net: nn.Module) -> None:
    """Initialise the linear layers of a network as transformers do: weights of deviation 0.02, biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _parameters(net: LeFF | FRFN) -> tuple[Tensor, ...]:
    return tuple(parameter for layer in (net.expand, net.dwconv, net.reduce) for parameter in layer.parameters())


def _leff_rows(
    x: Tensor, inner: slice, w1: Tensor, b1: Tensor, wc: Tensor, bc: Tensor, w2: Tensor, b2: Tensor
) -> Tensor:
    return linear(_depthwise(gelu(linear(x, w1, b1)), inner, wc, bc), w2, b2)


def _frfn_rows(
    x: Tensor, inner: slice, w1: Tensor, b1: Tensor, wc: Tensor, bc: Tensor, w2: Tensor, b2: Tensor
) -> Tensor:
    # The halves apart: a slice of a joint result would be copied before the convolution.
    weights, biases = w1.chunk(2), b1.chunk(2)
    values = _depthwise(gelu(linear(x, weights[0], biases[0])), inner, wc, bc)
    gate = gelu(linear(x[:, inner], weights[1], biases[1]))
    return linear(values * gate, w2, b2)


def _depthwise(x: Tensor, inner: slice, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel of (b, h, W, C) and return the GELU of the inner rows; channels-last needs no copy."""
    x = F.conv2d(rearrange(x, "b h w c -> b c h w"), weight, bias, padding=1, groups=len(weight))
    return gelu(rearrange(x, "b c h w -> b h w c")[:, inner])
