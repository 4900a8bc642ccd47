"""Key-semantic attention for CPUs: block by block in the cache, without keys that no query of a window chose.

Dense attention is bound by memory here: bias, mask and scores of all windows and heads are hundreds of megabytes that
pass the processor several times. A block is a few windows and one head; its bias and mask are folded into a buffer that
stays in the cache and is used at once. The backward recomputes the scores alike: nothing of their size is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend"]

# Scores per block: 4 MiB of fp32.
BLOCK_ELEMENTS = 1 << 20
# Copying the used keys pays where at most this share of them is used, in windows of at least this many tokens.
LARGEST_SHARE = 0.5
SMALLEST_WINDOW = 512


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E); arguments as in `key_semantic_attention`."""
    out: Tensor
    leaves = (q, k, v) if bias is None else (q, k, v, bias)
    if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves):
        dtype = torch.promote_types(q.dtype, torch.float32)  # softmax and its gradient need the digits
        converted = [None if each is None else each.to(dtype) for each in (q, k, v, bias)]
        out = attend_op(*converted[:3], semantics.mask(), converted[3], scale).to(v.dtype)
    else:
        out = attend_op(q, k, v, semantics.mask(), None if bias is None else bias.to(q.dtype), scale)
    return out


@dataclass(frozen=True)
class _Block:
    """Some windows and the keys they use.

    Attributes:
        windows: Which windows.
        keys: (U,) the keys used, None for all of them.
        mask: (windows, N, U) additive: 0 for a query's own keys, -inf for others.
    """

    windows: slice
    keys: Tensor | None
    mask: Tensor

    def rows(self, x: Tensor, head: int) -> Tensor:
        """Return (windows, U, D) of a (B, H, N, D) tensor: the rows of the keys used."""
        rows = x[self.windows, head]
        return rows if self.keys is None else rows.index_select(1, self.keys)

    def columns(self, bias: Tensor) -> Tensor:
        """Return (N, U) of an (N, N) bias."""
        return bias if self.keys is None else bias.index_select(1, self.keys)


def _blocks(mask: Tensor, dtype: torch.dtype) -> Iterator[_Block]:
    n, start = mask.shape[1], 0
    while start < len(mask):
        keys = _used_keys(mask[start]) if n >= SMALLEST_WINDOW else None
        stop = start + (1 if n >= SMALLEST_WINDOW else max(1, BLOCK_ELEMENTS // (n * n)))
        kept = mask[start:stop] if keys is None else mask[start:stop].index_select(2, keys)
        additive = torch.zeros(kept.shape, dtype=dtype).masked_fill_(~kept, -torch.inf)
        yield _Block(slice(start, stop), keys, additive)
        start = stop


def _used_keys(mask: Tensor) -> Tensor | None:
    keys = mask.any(0).nonzero().squeeze(1)
    return keys if len(keys) <= LARGEST_SHARE * mask.shape[1] else None


@torch.library.custom_op("semanir_plugin::key_semantic_attention_blockwise", mutates_args=())
def attend_op(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E) for a (B, N, N) bool mask."""
    out = v.new_empty(v.shape)
    for block in _blocks(mask, q.dtype):
        buffer = torch.empty_like(block.mask)
        for head in range(q.shape[1]):
            added = block.mask if bias is None else torch.add(block.mask, block.columns(bias[head]), out=buffer)
            query, key, value = q[block.windows, head], block.rows(k, head), block.rows(v, head)
            attended = F.scaled_dot_product_attention(
                query[:, None], key[:, None], value[:, None], attn_mask=added[:, None], scale=scale
            )
            out[block.windows, head] = attended[:, 0]
    return out


@attend_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    return v.new_empty(v.shape)


@torch.library.custom_op("semanir_plugin::key_semantic_attention_blockwise_backward", mutates_args=())
def backward_op(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, scale: float, out: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and bias, the last one empty where there is no bias."""
    dq, dk, dv = q.new_empty(q.shape), k.new_zeros(k.shape), v.new_zeros(v.shape)
    dbias = q.new_zeros(0 if bias is None else bias.shape)
    mean = (grad * out).sum(-1, keepdim=True)  # (B, H, N, 1): sum over keys of weight times its gradient
    for block in _blocks(mask, q.dtype):
        windows, buffer = block.windows, torch.empty_like(block.mask)
        for head in range(q.shape[1]):
            query, g = q[windows, head] * scale, grad[windows, head]
            key, value = block.rows(k, head), block.rows(v, head)
            added = block.mask if bias is None else torch.add(block.mask, block.columns(bias[head]), out=buffer)
            weights = torch.softmax(torch.baddbmm(added, query, key.mT, out=buffer), -1)
            _add_rows(dv, block, head, weights.mT @ g)
            dscores = torch.bmm(g, value.mT, out=buffer).sub_(mean[windows, head]).mul_(weights)
            dq[windows, head] = (dscores @ key) * scale
            _add_rows(dk, block, head, dscores.mT @ query)
            if bias is not None:
                _add_columns(dbias[head], block, dscores.sum(0))
    return dq, dk, dv, dbias


@backward_op.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, scale: float, out: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dbias = q.new_empty(0 if bias is None else bias.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), dbias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, mask, bias, out = ctx.saved_tensors
    dq, dk, dv, dbias = backward_op(grad, q, k, v, mask, bias, ctx.scale, out)
    return dq, dk, dv, None, None if bias is None else dbias, None


attend_op.register_autograd(_backward, setup_context=_setup_context)


def _add_rows(x: Tensor, block: _Block, head: int, rows: Tensor) -> None:
    """Add (windows, U, D) to the rows of `x` that `_Block.rows` returns."""
    target = x[block.windows, head]
    if block.keys is None:
        target += rows
    else:
        target.index_add_(1, block.keys, rows)


def _add_columns(bias: Tensor, block: _Block, columns: Tensor) -> None:
    """Add (N, U) to the columns of `bias` that `_Block.columns` returns."""
    if block.keys is None:
        bias += columns
    else:
        bias.index_add_(1, block.keys, columns)
