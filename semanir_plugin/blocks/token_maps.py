"""Blocks for any network: on token maps of any size, and as residual modules on feature maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from semanir_plugin.blocks.attention import AttentionKind, Context, build_attention
from semanir_plugin.blocks.feed_forward import FRFN, LeFF, Mlp, build_feed_forward
from semanir_plugin.blocks.layer_norm import LayerNorm
from semanir_plugin.blocks.padding import pad_to_multiple
from semanir_plugin.blocks.shared_semantics import SharedSemantics
from semanir_plugin.blocks.windows import WindowGrid, shift_along
from semanir_plugin.ops.key_semantics import Similarity
from semanir_plugin.schema.values import Count, FromZero, Positive

__all__ = [
    "BLOCKS",
    "KeySemanticMapAttention",
    "MapAttention",
    "ResidualBlock",
    "choose_heads",
    "choose_topk",
]

# Width of a head where nobody says how many there are, as in SwinIR and SemanIR.
HEAD_WIDTH = 32


class MapAttention(nn.Module):
    """Attention in windows of a token map of any size.

    Args:
        dim: Channels.
        kind: Kind of attention: "assa", "window" or "key_semantic".
        num_heads: Attention heads; by default as many as make them about 32 wide.
        window_size: Side of the windows in tokens. Maps are padded by reflection to a multiple.
        shift: By how many tokens the windows are shifted, along axes that have several.
        topk: Of key-semantic attention, keys per query; by default half of a window.
        similarity: Of key-semantic attention, what makes two tokens alike, "dot" or "cosine".

    Raises:
        ValueError: There is no such kind, `dim` is not a multiple of `num_heads`, `shift` is not below `window_size`,
            or `topk` not positive.
    """

    def __init__(
        self,
        dim: int,
        *,
        kind: AttentionKind = "assa",
        num_heads: Count | None = None,
        window_size: Count = 8,
        shift: FromZero = 0,
        topk: Count | None = None,
        similarity: Similarity = "dot",
    ) -> None:
        super().__init__()
        if window_size < 1 or not 0 <= shift < window_size:
            raise ValueError(f"shift must be at least 0 and below window_size, got {shift} and {window_size}")
        self.window_size = window_size
        self.shift = shift
        self.topk = choose_topk(topk, window_size**2)
        heads = choose_heads(dim) if num_heads is None else num_heads
        self.attn = build_attention(kind, dim, window_size, heads, similarity=similarity)

    def context(self, x: Tensor) -> Context:
        """Return the context of `x`, (B, H, W, dim), for `forward` on maps of its size: a dictionary or regions."""
        x = self._pad(x)
        return self._context(x, self.grid(x))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        """Map (B, H, W, dim) to the same shape.

        Args:
            x: Tokens.
            context: What `context` returned for a map of this size; by default for `x`.
        """
        height, width = x.shape[1:3]
        x = self._pad(x)
        grid = self.grid(x)
        context = self._context(x, grid) if context is None else context
        return grid.reverse(self.attn(grid.partition(x), context))[:, :height, :width]

    def grid(self, x: Tensor) -> WindowGrid:
        """Return where the windows of a padded map (B, H, W, dim) are."""
        height, width = x.shape[1:3]
        shift = (shift_along(height, self.window_size, self.shift), shift_along(width, self.window_size, self.shift))
        return WindowGrid(self.window_size, height, width, shift)

    def _context(self, x: Tensor, grid: WindowGrid) -> Context:
        return self.attn.context(x, grid, self.topk)

    def _pad(self, x: Tensor) -> Tensor:
        return rearrange(pad_to_multiple(rearrange(x, "b h w c -> b c h w"), self.window_size), "b c h w -> b h w c")


class KeySemanticMapAttention(MapAttention):
    """Key-semantic attention in windows of a token map of any size (SemanIR, section 3.3).

    Args:
        dim: Channels.
        num_heads: Attention heads; by default as many as make them about 32 wide.
        window_size: Side of the windows in tokens. Maps are padded by reflection to a multiple.
        shift: By how many tokens the windows are shifted, along axes that have several.
        topk: Keys per query; by default half of a window.
        similarity: What makes two tokens alike, "dot" or "cosine".
        shared: Dictionaries that several layers share; without, each pass builds its own from its input.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`, `shift` is not below `window_size`, or `topk` not positive.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: Count | None = None,
        window_size: Count = 8,
        shift: FromZero = 0,
        topk: Count | None = None,
        similarity: Similarity = "dot",
        shared: SharedSemantics | None = None,
    ) -> None:
        super().__init__(
            dim,
            kind="key_semantic",
            num_heads=num_heads,
            window_size=window_size,
            shift=shift,
            topk=topk,
            similarity=similarity,
        )
        self.shared = shared

    def _context(self, x: Tensor, grid: WindowGrid) -> Context:
        if self.shared is None:
            return super()._context(x, grid)
        return self.shared.context(self.attn, x, grid, self.topk, position=grid)


class ResidualBlock(nn.Module):
    """A block as a residual on feature maps, for convolutional networks: x + scale * block(LayerNorm(x)).

    Args:
        dim: Channels.
        block: Maps (B, H, W, dim) to the same shape.
        zero_init: Start with a scale of zero instead of one: what comes in goes out until training has changed it.
        channels_first: Whether maps are (B, dim, H, W), or else (B, H, W, dim).
    """

    def __init__(self, dim: int, block: nn.Module, *, zero_init: bool = False, channels_first: bool = True) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.norm = LayerNorm(dim)
        self.block = block
        self.scale = nn.Parameter(torch.full((dim,), 0.0 if zero_init else 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch of feature maps to the same shape."""
        tokens = rearrange(x, "b c h w -> b h w c") if self.channels_first else x
        # Under autocast the block may compute in another precision than x has.
        out = (self.scale * self.block(self.norm(tokens))).to(x.dtype)
        result: Tensor = x + (rearrange(out, "b h w c -> b c h w") if self.channels_first else out)
        return result


def choose_heads(dim: int) -> int:
    """Return the number of heads that divides a width and makes heads most nearly 32 wide."""
    divisors = [heads for heads in range(1, dim + 1) if dim % heads == 0]
    return min(divisors, key=lambda heads: abs(dim / heads - HEAD_WIDTH))


def choose_topk(topk: int | None, tokens: int) -> int:
    """Return the keys per query: `topk`, by default half of a window's tokens.

    Raises:
        ValueError: It is not positive.
    """
    topk = max(tokens // 2, 1) if topk is None else topk
    if topk < 1:
        raise ValueError(f"topk must be positive, got {topk}")
    return topk


def _assa(dim: int, *, num_heads: Count | None = None, window_size: Count = 8, shift: FromZero = 0) -> MapAttention:
    """Adaptive sparse attention: a softmax and a squared-ReLU branch in learned shares (AST, section 3.2)."""
    return MapAttention(dim, kind="assa", num_heads=num_heads, window_size=window_size, shift=shift)


def _window(dim: int, *, num_heads: Count | None = None, window_size: Count = 8, shift: FromZero = 0) -> MapAttention:
    """Softmax attention among all tokens of a window (Swin, section 3.2)."""
    return MapAttention(dim, kind="window", num_heads=num_heads, window_size=window_size, shift=shift)


def _frfn(dim: int, *, mlp_ratio: Positive = 2.0) -> FRFN | LeFF | Mlp:
    """Feature refinement feed-forward network (AST, section 3.3)."""
    return build_feed_forward("frfn", dim, mlp_ratio)


def _leff(dim: int, *, mlp_ratio: Positive = 2.0) -> FRFN | LeFF | Mlp:
    """Feed-forward network with a depthwise convolution in the middle (Uformer, section 3.2)."""
    return build_feed_forward("leff", dim, mlp_ratio)


def _mlp(dim: int, *, mlp_ratio: Positive = 2.0) -> FRFN | LeFF | Mlp:
    """Linear, GELU, Linear on each token."""
    return build_feed_forward("mlp", dim, mlp_ratio)


# By the names that options give them: from a width and options to a module on (B, H, W, dim).
BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "key_semantic": KeySemanticMapAttention,
    "assa": _assa,
    "window": _window,
    "frfn": _frfn,
    "leff": _leff,
    "mlp": _mlp,
}
