"""AST's layers and stages: adaptive sparse attention and a refining feed-forward network on (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semanir_plugin.blocks.attention import AdaptiveSparseAttention
from semanir_plugin.blocks.feed_forward import FRFN, LeFF, Mlp
from semanir_plugin.blocks.windows import merge_windows, partition_windows, shifted_regions

__all__ = ["AdaptiveSparseLayer", "AdaptiveSparseStage", "DropPath", "FeedForwardLayer"]

FEED_FORWARDS: dict[str, type[FRFN | LeFF | Mlp]] = {"frfn": FRFN, "leff": LeFF, "mlp": Mlp}


class DropPath(nn.Module):
    """Stochastic depth: in training, leaves a residual branch out for some of the samples (Huang et al., ECCV 2016).

    Args:
        rate: Probability of leaving it out; what stays is divided by 1 - rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ...) to the same shape."""
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * (keep / (1 - self.rate))

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate:.3g}"


class FeedForwardLayer(nn.Module):
    """Half a transformer layer, without attention: x + mlp(LN(x)), AST's encoder.

    Args:
        dim: Channels.
        mlp_ratio: Hidden channels of the feed-forward network, as a multiple of `dim`.
        token_mlp: Kind of feed-forward network: "frfn", "leff" or "mlp".
        drop_path: Probability of leaving out a residual branch in training.

    Raises:
        ValueError: There is no such kind.
    """

    def __init__(self, dim: int, *, mlp_ratio: float = 4.0, token_mlp: str = "frfn", drop_path: float = 0.0) -> None:
        super().__init__()
        if token_mlp not in FEED_FORWARDS:
            raise ValueError(f"token_mlp must be one of {list(FEED_FORWARDS)}, got {token_mlp!r}")
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FEED_FORWARDS[token_mlp](dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim) to the same shape."""
        return x + self.drop_path(self.mlp(self.norm2(x)))


class AdaptiveSparseLayer(FeedForwardLayer):
    """Transformer layer with pre-normalisation and adaptive sparse attention in windows (AST, section 3.1).

    Args:
        dim: Channels, a multiple of `num_heads`.
        window_size: Side of the windows in tokens.
        num_heads: Attention heads.
        shift: By how many tokens the windows are shifted.
        mlp_ratio: Hidden channels of the feed-forward network, as a multiple of `dim`.
        token_mlp: Kind of feed-forward network: "frfn", "leff" or "mlp".
        drop_path: Probability of leaving out a residual branch in training.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`, or there is no such kind.
    """

    def __init__(
        self,
        dim: int,
        window_size: int,
        num_heads: int,
        *,
        shift: int = 0,
        mlp_ratio: float = 4.0,
        token_mlp: str = "frfn",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(dim, mlp_ratio=mlp_ratio, token_mlp=token_mlp, drop_path=drop_path)
        self.window_size = window_size
        self.shift = (shift, shift)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = AdaptiveSparseAttention(dim, window_size, num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, dim), H and W multiples of the window, to the same shape."""
        height, width = x.shape[1:3]
        regions = None
        if any(self.shift):  # also in an image of a single window, as the authors do
            regions = shifted_regions(height, width, self.window_size, self.shift, x.device)
        windows = self.attn(partition_windows(self.norm1(x), self.window_size, self.shift), regions)
        x = x + self.drop_path(merge_windows(windows, self.window_size, height, width, self.shift))
        return super().forward(x)


class AdaptiveSparseStage(nn.Module):
    """Layers in turn.

    Args:
        layers: What it consists of.
        use_checkpoint: Compute the layers again in the backward pass instead of keeping what they computed.
    """

    def __init__(self, layers: Sequence[FeedForwardLayer], *, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.use_checkpoint = use_checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        for layer in self.layers:
            if self.use_checkpoint and torch.is_grad_enabled():
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return x
