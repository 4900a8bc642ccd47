"""AST's layers and stages: adaptive sparse attention and a refining feed-forward network on (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semanir_plugin.blocks.attention import KeySemanticAttention, build_attention
from semanir_plugin.blocks.feed_forward import build_feed_forward
from semanir_plugin.blocks.shared_semantics import build_in_windows
from semanir_plugin.blocks.windows import WindowGrid
from semanir_plugin.ops import KeySemantics
from semanir_plugin.ops.key_semantics import Similarity

__all__ = ["AdaptiveSparseLayer", "AdaptiveSparseStage", "DropPath", "FeedForwardLayer"]


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
        ffn: Kind of feed-forward network: "frfn", "leff" or "mlp".
        drop_path: Probability of leaving out a residual branch in training.

    Raises:
        ValueError: There is no such kind.
    """

    def __init__(self, dim: int, *, mlp_ratio: float = 4.0, ffn: str = "frfn", drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = build_feed_forward(ffn, dim, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, semantics: KeySemantics | None = None) -> Tensor:
        """Map (B, H, W, dim) to the same shape; without attention, there is no use for `semantics`."""
        return x + self.drop_path(self.mlp(self.norm2(x)))


class AdaptiveSparseLayer(FeedForwardLayer):
    """Transformer layer with pre-normalisation and, by default, adaptive sparse attention (AST, section 3.1).

    Args:
        dim: Channels, a multiple of `num_heads`.
        window_size: Side of the windows in tokens.
        num_heads: Attention heads.
        shift: By how many tokens the windows are shifted.
        attn: Kind of attention: "assa", "key_semantic" or "window".
        mlp_ratio: Hidden channels of the feed-forward network, as a multiple of `dim`.
        ffn: Kind of feed-forward network: "frfn", "leff" or "mlp".
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
        attn: str = "assa",
        mlp_ratio: float = 4.0,
        ffn: str = "frfn",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(dim, mlp_ratio=mlp_ratio, ffn=ffn, drop_path=drop_path)
        self.window_size = window_size
        self.shift = (shift, shift)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = build_attention(attn, dim, window_size, num_heads)

    def grid(self, x: Tensor) -> WindowGrid:
        """Return where the layer's windows are on (B, H, W, C)."""
        # Shifted also in an image of a single window, as the authors do.
        return WindowGrid(self.window_size, x.shape[1], x.shape[2], self.shift)

    def forward(self, x: Tensor, semantics: KeySemantics | None = None) -> Tensor:
        """Map (B, H, W, dim), H and W multiples of the window, to the same shape.

        Args:
            x: Tokens.
            semantics: The dictionary of the layer's windows, for key-semantic attention.
        """
        grid = self.grid(x)
        keys = semantics if isinstance(self.attn, KeySemanticAttention) else grid.regions(x.device)
        x = x + self.drop_path(grid.merge(self.attn(grid.partition(self.norm1(x)), keys)))
        return super().forward(x)


class AdaptiveSparseStage(nn.Module):
    """Layers in turn; those with key-semantic attention share dictionaries, built from the stage's input.

    Args:
        layers: What it consists of.
        similarity: What makes two tokens alike, see `build_key_semantics`.
        use_checkpoint: Compute the layers again in the backward pass instead of keeping what they computed.
    """

    def __init__(
        self, layers: Sequence[FeedForwardLayer], *, similarity: Similarity = "dot", use_checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.similarity = similarity
        self.use_checkpoint = use_checkpoint

    def forward(self, x: Tensor, topk: int = 1) -> Tensor:
        """Map (B, H, W, C) to the same shape, with `topk` keys per query where there are dictionaries."""
        out = x
        dictionaries: dict[tuple[int, int], KeySemantics] = {}
        for layer in self.layers:
            semantics = None
            if isinstance(layer, AdaptiveSparseLayer) and isinstance(layer.attn, KeySemanticAttention):
                if layer.shift not in dictionaries:
                    dictionaries[layer.shift] = build_in_windows(x, layer.grid(x), topk, self.similarity)
                semantics = dictionaries[layer.shift]
            out = self._run(layer, out, semantics)
        return out

    def _run(self, layer: nn.Module, x: Tensor, semantics: KeySemantics | None) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(layer, x, semantics, use_reentrant=False)
        return layer(x, semantics)
