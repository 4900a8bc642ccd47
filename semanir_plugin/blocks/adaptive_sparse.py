"""AST's layers and stages: adaptive sparse attention and a refining feed-forward network on (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semanir_plugin.blocks.attention import Context, build_attention
from semanir_plugin.blocks.feed_forward import build_feed_forward
from semanir_plugin.blocks.layer_norm import LayerNorm
from semanir_plugin.blocks.windows import WindowGrid
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

    # Layers of a stage that have equal keys share a context.
    context_key: Hashable = None

    def __init__(self, dim: int, *, mlp_ratio: float = 4.0, ffn: str = "frfn", drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm2 = LayerNorm(dim)
        self.mlp = build_feed_forward(ffn, dim, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def context(self, x: Tensor, topk: int) -> Context:
        """Return None: without attention, there is no use for a context."""
        return None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Map (B, H, W, dim) to the same shape."""
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class AdaptiveSparseLayer(FeedForwardLayer):
    """Transformer layer with pre-normalisation and, by default, adaptive sparse attention (AST, section 3.1).

    Args:
        dim: Channels, a multiple of `num_heads`.
        window_size: Side of the windows in tokens.
        num_heads: Attention heads.
        shift: By how many tokens the windows are shifted.
        attn: Kind of attention: "assa", "key_semantic" or "window".
        similarity: What makes two tokens alike, of key-semantic attention.
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
        similarity: Similarity = "dot",
        mlp_ratio: float = 4.0,
        ffn: str = "frfn",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(dim, mlp_ratio=mlp_ratio, ffn=ffn, drop_path=drop_path)
        self.window_size = window_size
        self.shift = (shift, shift)
        self.norm1 = LayerNorm(dim)
        self.attn = build_attention(attn, dim, window_size, num_heads, similarity=similarity)
        self.context_key = (self.shift, self.attn.similarity)

    def grid(self, x: Tensor) -> WindowGrid:
        """Return the grid of the layer's windows on (B, H, W, C)."""
        # Shifted also in an image of a single window, as the authors do.
        return WindowGrid(self.window_size, x.shape[1], x.shape[2], self.shift)

    def context(self, x: Tensor, topk: int) -> Context:
        """Return the context of `x`, (B, H, W, dim), for `forward` on maps of its size: a dictionary or regions."""
        return self.attn.context(x, self.grid(x), topk)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Map (B, H, W, dim), H and W multiples of the window, to the same shape."""
        grid = self.grid(x)
        x = x + self.drop_path(grid.reverse(self.attn(grid.partition(self.norm1(x)), context)))
        return super().forward(x, context)


class AdaptiveSparseStage(nn.Module):
    """Layers in turn; those that attend alike in the same windows share a context, made from the stage's input.

    Args:
        layers: What it consists of.
        use_checkpoint: Compute the layers again in the backward pass instead of keeping what they computed.
    """

    def __init__(self, layers: Sequence[FeedForwardLayer], *, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.use_checkpoint = use_checkpoint

    def forward(self, x: Tensor, topk: int = 1) -> Tensor:
        """Map (B, H, W, C) to the same shape, with `topk` keys per query where there are dictionaries."""
        out = x
        contexts: dict[Hashable, Context] = {}
        for layer in self.layers:
            assert isinstance(layer, FeedForwardLayer)
            if layer.context_key not in contexts:
                contexts[layer.context_key] = layer.context(x, topk)
            out = self._run(layer, out, contexts[layer.context_key])
        return out

    def _run(self, layer: nn.Module, x: Tensor, context: Context) -> Tensor:
        out: Tensor
        if self.use_checkpoint and torch.is_grad_enabled():
            out = checkpoint(layer, x, context, use_reentrant=False)
        else:
            out = layer(x, context)
        return out
