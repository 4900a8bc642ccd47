"""Attention modules on windows of tokens."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from semanir_plugin.blocks.linear import Linear
from semanir_plugin.blocks.position_bias import PositionBias, build_position_bias
from semanir_plugin.blocks.windows import Windows
from semanir_plugin.ops import (
    KeySemantics,
    adaptive_sparse_attention,
    build_key_semantics,
    cosine_qkv,
    key_semantic_attention,
)
from semanir_plugin.ops.key_semantics import Similarity

__all__ = [
    "ATTENTIONS",
    "AdaptiveSparseAttention",
    "Attention",
    "AttentionKind",
    "Context",
    "KeySemanticAttention",
    "WindowAttention",
    "build_attention",
    "get_attention",
]

# What attention needs beside the tokens: a dictionary; or the regions of shifted windows; or nothing.
Context = KeySemantics | Tensor | None


class KeySemanticAttention(nn.Module):
    """Scaled cosine attention over a given key-semantic dictionary (SemanIR, section 3.3; Swin V2, section 3.2).

    Args:
        dim: Channels of the tokens, a multiple of `num_heads`.
        window_size: Side of the window in tokens.
        num_heads: Attention heads.
        position_bias: "table", as published: of relative positions, by an MLP; or "factorised": of low rank, in the
            scores themselves, see `FactorisedPositionBias`.
        similarity: What makes two tokens alike in its dictionary, see `build_key_semantics`.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`, or there is no such `position_bias`.
    """

    builds_dictionary: ClassVar[bool] = True
    # Learned scales grow no further than 100, as in Swin V2.
    MAX_LOG_SCALE = math.log(100)

    def __init__(
        self,
        dim: int,
        window_size: int,
        num_heads: int,
        *,
        position_bias: PositionBias = "table",
        similarity: Similarity = "dot",
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"the width {dim} is not a multiple of the {num_heads} heads")
        self.num_heads = num_heads
        self.similarity = similarity
        self.qkv = Linear(dim, 3 * dim)
        self.log_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.position_bias = build_position_bias(position_bias, window_size, num_heads)
        self.proj = Linear(dim, dim)

    def context(self, x: Tensor, windows: Windows, topk: int) -> Context:
        """Build the dictionary of the windows of `x`, tokens as they come before `windows.partition`: `topk` keys each.

        Layers on the same windows may share it: SemanIR builds it from a stage's input (section 3.2).
        """
        regions = windows.regions(x.device)
        return build_key_semantics(windows.partition(x), topk, regions=regions, similarity=self.similarity)

    def forward(self, x: Tensor, semantics: KeySemantics) -> Tensor:
        """Map (B, N, C) windows to (B, N, C), attending only to the keys in `semantics`."""
        q, k, v, bias = self.project(x)
        out = key_semantic_attention(q, k, v, semantics, bias=bias, scale=1.0)
        result: Tensor = self.proj(rearrange(out, "b h n d -> b n (h d)"))
        return result

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return q, k, v and bias of (B, N, C) windows, as `key_semantic_attention` takes them, with a scale of 1."""
        q, k, v = cosine_qkv(self.qkv(x), self.log_scale.clamp(max=self.MAX_LOG_SCALE).exp().flatten())
        q, k, bias = self.position_bias.apply_to(q, k)
        return q, k, v, bias


class WindowAttention(nn.Module):
    """Softmax attention among all tokens of a window, with a learned bias of relative positions (Swin, section 3.2).

    Args:
        dim: Channels of the tokens, a multiple of `num_heads`.
        window_size: Side of the window in tokens.
        num_heads: Attention heads.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`.
    """

    builds_dictionary: ClassVar[bool] = False
    similarity: Similarity | None = None

    def __init__(self, dim: int, window_size: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"the width {dim} is not a multiple of the {num_heads} heads")
        side = 2 * window_size - 1
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.position_table = nn.Parameter(torch.empty(num_heads, side, side))
        self.proj = Linear(dim, dim)
        nn.init.trunc_normal_(self.position_table, std=0.02)

    def branch_shares(self) -> Tensor:
        """Return the shares of softmax and squared ReLU, (2,)."""
        return self.position_table.new_tensor((1.0, 0.0))

    def context(self, x: Tensor, windows: Windows, topk: int) -> Context:
        """Return the regions of shifted windows, (R, N), or None: of `x` only the device matters, of `topk` nothing."""
        return windows.regions(x.device)

    def forward(self, x: Tensor, regions: Tensor | None = None) -> Tensor:
        """Map (B, N, C) windows to (B, N, C); tokens of different `regions`, (R, N), hardly see each other."""
        q, k, v = rearrange(self.qkv(x), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.num_heads)
        out = adaptive_sparse_attention(q, k, v, self.branch_shares(), bias=self.position_table, regions=regions)
        result: Tensor = self.proj(rearrange(out, "b h n d -> b n (h d)"))
        return result


class AdaptiveSparseAttention(WindowAttention):
    """Window attention of a softmax and a squared-ReLU branch, in learned shares (AST, CVPR 2024, section 3.2)."""

    def __init__(self, dim: int, window_size: int, num_heads: int) -> None:
        super().__init__(dim, window_size, num_heads)
        self.branch_logits = nn.Parameter(torch.ones(2))

    def branch_shares(self) -> Tensor:
        """Return the shares of softmax and squared ReLU, (2,)."""
        return self.branch_logits.softmax(0)


Attention = KeySemanticAttention | WindowAttention

AttentionKind = Literal["key_semantic", "assa", "window"]

# By the names that options give them.
ATTENTIONS: dict[str, type[Attention]] = {
    "key_semantic": KeySemanticAttention,
    "assa": AdaptiveSparseAttention,
    "window": WindowAttention,
}


def get_attention(kind: str) -> type[Attention]:
    """Return the class of a kind of attention.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in ATTENTIONS:
        raise ValueError(f"unknown attention {kind!r}: it is one of {list(ATTENTIONS)}")
    return ATTENTIONS[kind]


def build_attention(
    kind: str,
    dim: int,
    window_size: int,
    num_heads: int,
    *,
    position_bias: PositionBias = "table",
    similarity: Similarity = "dot",
) -> Attention:
    """Return attention on windows of a kind; `position_bias` and `similarity` are of key-semantic attention alone.

    Raises:
        ValueError: There is no such kind, or no such bias, or `dim` is not a multiple of `num_heads`.
    """
    attention = get_attention(kind)
    if issubclass(attention, KeySemanticAttention):
        return attention(dim, window_size, num_heads, position_bias=position_bias, similarity=similarity)
    return attention(dim, window_size, num_heads)
