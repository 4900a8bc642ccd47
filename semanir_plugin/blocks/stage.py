"""A SemanIR stage: layers that share key-semantic dictionaries built from the stage's input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semanir_plugin.blocks.attention import KeySemanticAttention
from semanir_plugin.blocks.feed_forward import Mlp
from semanir_plugin.blocks.windows import merge_windows, partition_windows, shifted_regions
from semanir_plugin.ops import KeySemantics, build_key_semantics
from semanir_plugin.ops.key_semantics import Similarity

__all__ = ["KeySemanticLayer", "KeySemanticStage", "residual_conv"]


class KeySemanticLayer(nn.Module):
    """Transformer layer with residual post-normalisation: x + LN(attn(x)), then x + LN(mlp(x)).

    Args:
        dim: Channels.
        window_size: Side of the window in tokens.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP, as a multiple of `dim`.
        shifted: Whether the layer's windows are shifted by half their size.
    """

    def __init__(self, dim: int, window_size: int, num_heads: int, *, mlp_ratio: float, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.attn = KeySemanticAttention(dim, window_size, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, semantics: KeySemantics) -> Tensor:
        """Map (B, N, C) windows to (B, N, C)."""
        x = x + self.norm1(self.attn(x, semantics))
        return x + self.norm2(self.mlp(x))


class KeySemanticStage(nn.Module):
    """Layers on windows, closed by a convolution and a residual (SemanIR, section 3.1).

    One dictionary is built from the stage's input for each window position that its layers use, and shared by them.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        window_size: Side of the window in tokens.
        mlp_ratio: Hidden channels of the MLPs, as a multiple of `dim`.
        shifted: For each layer, whether its windows are shifted by half their size.
        similarity: What makes two tokens alike, see `build_key_semantics`.
        resi_connection: "1conv" or "3conv", the convolution that closes the stage.
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
        resi_connection: str = "1conv",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.window_size = window_size
        self.similarity = similarity
        self.layers = nn.ModuleList(
            KeySemanticLayer(dim, window_size, num_heads, mlp_ratio=mlp_ratio, shifted=each) for each in shifted
        )
        self.conv = residual_conv(dim, resi_connection)

    def forward(self, x: Tensor, topk: int) -> Tensor:
        """Map (B, H, W, C), H and W multiples of the window, to the same shape, with `topk` keys per query."""
        height, width = x.shape[1:3]
        out = x
        dictionaries: dict[bool, KeySemantics] = {}
        for shifted, layers in groupby(self.layers, key=lambda layer: layer.shifted):
            shift = self._shift(height, width) if shifted else (0, 0)
            if shifted not in dictionaries:
                dictionaries[shifted] = self._build(x, topk, shift)
            windows = partition_windows(out, self.window_size, shift)
            for layer in layers:
                windows = self._run(layer, windows, dictionaries[shifted])
            out = merge_windows(windows, self.window_size, height, width, shift)
        return x + self.conv(out.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _run(self, layer: nn.Module, windows: Tensor, semantics: KeySemantics) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(layer, windows, semantics, use_reentrant=False)
        return layer(windows, semantics)

    def _shift(self, height: int, width: int) -> tuple[int, int]:
        # A single window along an axis already sees all of it.
        half = self.window_size // 2
        return (half if height > self.window_size else 0, half if width > self.window_size else 0)

    def _build(self, x: Tensor, topk: int, shift: tuple[int, int]) -> KeySemantics:
        windows = partition_windows(x, self.window_size, shift)
        regions = shifted_regions(x.shape[1], x.shape[2], self.window_size, shift, x.device) if any(shift) else None
        return build_key_semantics(windows, topk, regions=regions, similarity=self.similarity)


def residual_conv(dim: int, kind: str) -> nn.Module:
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
