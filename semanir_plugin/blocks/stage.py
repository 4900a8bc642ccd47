"""A SemanIR stage: layers that share key-semantic dictionaries built from the stage's input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semanir_plugin.blocks.attention import Attention, Context, build_attention
from semanir_plugin.blocks.feed_forward import Mlp, build_feed_forward
from semanir_plugin.blocks.layer_norm import LayerNorm
from semanir_plugin.blocks.position_bias import PositionBias
from semanir_plugin.blocks.windows import CutWindows, WindowGrid, shift_along
from semanir_plugin.ops.common.eager import values_may_decide
from semanir_plugin.ops.key_semantics import Similarity

__all__ = ["KeySemanticLayer", "KeySemanticStage", "ResidualConvKind", "residual_conv"]

ResidualConvKind = Literal["1conv", "3conv"]

CHUNK_ELEMENTS = 3 << 18
"""Of the tokens that go through a stage's layers at a time, 3 MiB of fp32: many more would be new memory each time."""


class KeySemanticLayer(nn.Module):
    """Transformer layer with residual post-normalisation: x + LN(attn(x)), then x + LN(mlp(x)).

    Args:
        dim: Channels.
        window_size: Side of the window in tokens.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forward network, as a multiple of `dim`.
        shifted: Whether the layer's windows are shifted by half their size.
        attn: Kind of attention: "key_semantic", "assa" or "window".
        position_bias: "table" or "factorised", of key-semantic attention.
        similarity: What makes two tokens alike, of key-semantic attention.
        ffn: Kind of feed-forward network: "mlp", "frfn" or "leff".
    """

    # Weights of the norms at the start: a layer adds little, as in Swin V2, whose norms start at 0. With 1 it adds
    # noise as large as the features: 170 steps of a small SemanIR x4 then ended 2 dB lower.
    INITIAL_SCALE = 0.1

    def __init__(
        self,
        dim: int,
        window_size: int,
        num_heads: int,
        *,
        mlp_ratio: float,
        shifted: bool,
        attn: str = "key_semantic",
        position_bias: PositionBias = "table",
        similarity: Similarity = "dot",
        ffn: str = "mlp",
    ) -> None:
        super().__init__()
        self.shifted = shifted
        self.attn = build_attention(
            attn, dim, window_size, num_heads, position_bias=position_bias, similarity=similarity
        )
        self.norm1 = LayerNorm(dim)
        self.mlp = build_feed_forward(ffn, dim, mlp_ratio)
        self.norm2 = LayerNorm(dim)
        for norm in (self.norm1, self.norm2):
            nn.init.constant_(norm.weight, self.INITIAL_SCALE)

    def forward(self, x: Tensor, grid: WindowGrid, context: Context) -> Tensor:
        """Map (B, N, C) windows to (B, N, C), given the context that `attn.context` returned."""
        x = _add_normalised(x, self.norm1, self.attn(x, context))
        return _add_normalised(x, self.norm2, self._feed_forward(x, grid))

    def _feed_forward(self, x: Tensor, grid: WindowGrid) -> Tensor:
        if isinstance(self.mlp, Mlp):  # sees each token alone
            out: Tensor = self.mlp(x)
            return out
        return grid.partition(self.mlp(grid.reverse(x)))


def _add_normalised(x: Tensor, norm: nn.Module, branch: Tensor) -> Tensor:
    """Return x + norm(branch), where `norm` may be anyone's."""
    out: Tensor = norm(branch, residual=x) if isinstance(norm, LayerNorm) else x + norm(branch)
    return out


class KeySemanticStage(nn.Module):
    """Layers on windows, closed by a convolution and a residual (SemanIR, section 3.1).

    Attention makes its context, such as a dictionary, from the stage's input; layers whose windows lie alike share it.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        window_size: Side of the window in tokens.
        mlp_ratio: Hidden channels of the feed-forward networks, as a multiple of `dim`.
        shifted: For each layer, whether its windows are shifted by half their size.
        similarity: What makes two tokens alike, see `build_key_semantics`.
        resi_connection: "1conv" or "3conv", the convolution that closes the stage.
        attn: Kind of attention: "key_semantic"; "assa" or "window", which need no dictionary.
        position_bias: "table" or "factorised", of key-semantic attention.
        ffn: Kind of feed-forward network: "mlp", "frfn" or "leff".
        use_checkpoint: Compute the layers again in the backward pass instead of keeping what they computed.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: int,
        mlp_ratio: float,
        shifted: Sequence[bool],
        similarity: Similarity = "dot",
        resi_connection: ResidualConvKind = "1conv",
        attn: str = "key_semantic",
        position_bias: PositionBias = "table",
        ffn: str = "mlp",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.window_size = window_size
        self.layers = nn.ModuleList(
            KeySemanticLayer(
                dim,
                window_size,
                num_heads,
                mlp_ratio=mlp_ratio,
                shifted=each,
                attn=attn,
                position_bias=position_bias,
                similarity=similarity,
                ffn=ffn,
            )
            for each in shifted
        )
        self.conv = residual_conv(dim, resi_connection)

    def forward(self, x: Tensor, topk: int) -> Tensor:
        """Map (B, H, W, C), H and W multiples of the window, to the same shape, with `topk` keys per query."""
        out, count = x, self._windows_at_once(x)
        contexts: dict[bool, list[Context]] = {}
        for shifted, group in groupby(self.layers, key=lambda layer: layer.shifted):
            grid, layers = self.grid(x, shifted=shifted), list(group)
            if shifted not in contexts:
                contexts[shifted] = self._contexts(x, grid, topk, count)
            windows = grid.partition(out)
            parts = [windows] if count is None else windows.split(count)
            done = [
                self._run(layers, part, grid, context) for part, context in zip(parts, contexts[shifted], strict=True)
            ]
            out = grid.reverse(done[0] if len(done) == 1 else torch.cat(done))
        result: Tensor = x + rearrange(self.conv(rearrange(out, "b h w c -> b c h w")), "b c h w -> b h w c")
        return result

    @property
    def attn(self) -> Attention:
        """The attention of the first layer; contexts that it makes suit all layers."""
        first = self.layers[0]
        assert isinstance(first, KeySemanticLayer)
        return first.attn

    def grid(self, x: Tensor, *, shifted: bool) -> WindowGrid:
        """Return the grid of windows on a map (B, H, W, C), shifted or not."""
        height, width = x.shape[1:3]
        half = self.window_size // 2 if shifted else 0
        shift = (shift_along(height, self.window_size, half), shift_along(width, self.window_size, half))
        return WindowGrid(self.window_size, height, width, shift)

    def _windows_at_once(self, x: Tensor) -> int | None:
        """Return how many windows go through all layers at a time, so that they stay in the cache; None: all.

        In inference on CPUs, where layers see their window alone; larger results would also be new memory each time.
        """
        if torch.is_grad_enabled() or not values_may_decide([x]):
            return None
        if not all(isinstance(layer.mlp, Mlp) for layer in self.layers):
            return None
        return max(1, CHUNK_ELEMENTS // (self.window_size**2 * x.shape[-1]))

    def _contexts(self, x: Tensor, grid: WindowGrid, topk: int, count: int | None) -> list[Context]:
        """Return what attention needs for each part of the windows, of `count`."""
        if count is None:
            return [self.attn.context(x, grid, topk)]
        windows, regions = grid.partition(x), grid.regions(x.device)
        parts = windows.split(count)
        labels = [None] * len(parts) if regions is None else regions.repeat(len(x), 1).split(count)
        return [self.attn.context(*each, topk) for each in zip(parts, map(CutWindows, labels), strict=True)]

    def _run(self, layers: Sequence[nn.Module], windows: Tensor, grid: WindowGrid, context: Context) -> Tensor:
        for layer in layers:
            if self.use_checkpoint and torch.is_grad_enabled():
                windows = checkpoint(layer, windows, grid, context, use_reentrant=False)
            else:
                windows = layer(windows, grid, context)
        return windows


def residual_conv(dim: int, kind: ResidualConvKind) -> nn.Module:
    """Return the (B, dim, H, W) convolution before a residual: "1conv", or "3conv" with fewer parameters (SwinIR).

    Raises:
        ValueError: `kind` is neither.
    """
    if kind == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    if kind == "3conv":
        return nn.Sequential(
            nn.Conv2d(dim, dim // 4, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(dim // 4, dim // 4, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(dim // 4, dim, 3, padding=1),
        )
    raise ValueError(f"resi_connection must be '1conv' or '3conv', got {kind!r}")
