"""Key-semantic attention through PyTorch's FlexAttention, compiled on CUDA; elsewhere it runs uncompiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common.position_table import is_table, table_side
from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend"]


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E); arguments as in `key_semantic_attention`, the bias also as a table.

    Raises:
        ValueError: A gradient is wanted on a CPU.
    """
    b, _, n, _ = q.shape
    if b == 0:
        return v.clone()
    if q.device.type == "cpu":
        if torch.is_grad_enabled() and any(each.requires_grad for each in (q, k, v)):
            raise ValueError("the flex backend cannot be used: FlexAttention has no backward on CPUs")
        q, k, v = q.detach(), k.detach(), v.detach()  # it looks at these also where gradients are switched off
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # slow to import, rarely asked for

    mask = semantics.mask()

    def make() -> Any:
        return create_block_mask(lambda b, _, i, j: mask[b, i, j], b, None, n, n, device=q.device)

    attention = _compiled(flex_attention) if q.device.type == "cuda" else flex_attention
    score_mod = None if bias is None else _adding(bias, n)
    out = attention(q, k, v, score_mod=score_mod, block_mask=semantics.shared("flex_block_mask", make), scale=scale)
    result: Tensor = out.to(v.dtype)
    return result


@functools.cache
def _compiled(attention: Any) -> Any:
    return torch.compile(attention)


def _adding(bias: Tensor, tokens: int) -> Callable[..., Tensor]:
    if not is_table(bias, tokens):
        return lambda score, b, h, i, j: score + bias[h, i, j]
    w = table_side(bias)
    return lambda score, b, h, i, j: score + bias[h, i // w - j // w + w - 1, i % w - j % w + w - 1]
