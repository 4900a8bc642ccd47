"""Adaptive sparse attention in PyTorch, in one pass over the scores, some windows at a time.

A block is one head of so many windows that their scores stay in the processor's cache from the product that makes them
to the product that uses them. The backward makes them anew: nothing of their size is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast
from semanir_plugin.ops.common.eager import run_op
from semanir_plugin.ops.common.layout import empty_heads

__all__ = ["attend"]

# Scores per block: 1 MiB of fp32.
BLOCK_ELEMENTS = 1 << 18
# What scores across regions are lowered by.
PENALTY = 100.0

_INPUTS = "Tensor q, Tensor k, Tensor v, Tensor weights, Tensor? bias, Tensor? regions, float scale"


def attend(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> Tensor:
    """Return (B, H, N, D); arguments as in `adaptive_sparse_attention`, the bias dense; computed in fp32 at least."""
    out: Tensor = run_op(_forward, q, k, v, weights, bias, regions, scale)
    return out


@dataclass(frozen=True)
class _Block:
    """One head of some windows.

    Attributes:
        at: Which windows and which head, to index (B, H, N, D) with.
        query: (windows, N, D), like key and value.
        key: As the query.
        value: As the query.
        bias: (N, N) of the head, or none.
        across: The windows of the block with several regions, (M,), and by how much that lowers their scores,
            (M, N, N).
        buffers: Each (windows, N, N), for the block to work in.
    """

    at: tuple[slice, int]
    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    across: tuple[Tensor, Tensor] | None
    buffers: Tensor

    def scores(self, scale: float) -> Tensor:
        """Return the scores, in the first buffer."""
        out = self.buffers[0]
        if self.bias is None:
            torch.baddbmm(out, self.query, self.key.mT, beta=0, alpha=scale, out=out)
        else:
            torch.baddbmm(self.bias, self.query, self.key.mT, alpha=scale, out=out)
        if self.across is not None:
            windows, penalty = self.across
            out.index_add_(0, windows, penalty, alpha=-1)
        return out


def _blocks(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, regions: Tensor | None, buffers: int
) -> Iterator[_Block]:
    b, h, n, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    bias = None if bias is None else bias.to(dtype)
    step = max(1, min(b, BLOCK_ELEMENTS // (n * n)))
    memory = q.new_empty(buffers, step, n, n, dtype=dtype)
    for start in range(0, b, step):
        windows = slice(start, min(start + step, b))
        across = None if regions is None else _across(regions, windows, dtype)
        for head in range(h):
            query, key, value = (x[windows, head].to(dtype) for x in (q, k, v))
            head_bias = None if bias is None else bias[head]
            yield _Block((windows, head), query, key, value, head_bias, across, memory[:, : len(query)])


def _across(regions: Tensor, windows: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    # Only the last windows of a row or a column of them have several regions.
    labels = regions[torch.arange(windows.start, windows.stop, device=regions.device) % len(regions)]
    which = (labels != labels[:, :1]).any(1).nonzero().squeeze(1)
    if not len(which):
        return None
    labels = labels[which]
    return which, (labels[:, :, None] != labels[:, None, :]).to(dtype).mul_(PENALTY)


@torch.library.custom_op("semanir_plugin::adaptive_sparse_torch", mutates_args=(), schema=f"({_INPUTS}) -> Tensor")
def _forward(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> Tensor:
    out = empty_heads(v)
    dense_share, sparse_share = weights.tolist()
    with without_autocast(q.device.type):
        for block in _blocks(q, k, v, bias, regions, buffers=2):
            scores = block.scores(scale)
            mixed = torch.softmax(scores, -1, out=block.buffers[1]).mul_(dense_share)
            scores.relu_()
            mixed.addcmul_(scores, scores, value=sparse_share)
            out[block.at] = torch.bmm(mixed, block.value)
    return out


@_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> Tensor:
    return empty_heads(v)


@torch.library.custom_op(
    "semanir_plugin::adaptive_sparse_torch_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    regions: Tensor | None,
    scale: float,
) -> tuple[Tensor, ...]:
    dq, dk, dv = (empty_heads(x) for x in (q, k, v))
    dweights = torch.zeros_like(weights, dtype=torch.float64)
    dbias = q.new_zeros(0) if bias is None else torch.zeros_like(bias)
    dense_share, sparse_share = weights.tolist()
    with without_autocast(q.device.type):
        for block in _blocks(q, k, v, bias, regions, buffers=4):
            g = grad[block.at].to(block.value.dtype)
            _, dense, dmixed, mixed = block.buffers
            sparse_root = block.scores(scale)
            torch.softmax(sparse_root, -1, out=dense)
            sparse_root.relu_()
            torch.mul(dense, dense_share, out=mixed).addcmul_(sparse_root, sparse_root, value=sparse_share)
            dv[block.at] = torch.bmm(mixed.mT, g)
            torch.bmm(g, block.value.mT, out=dmixed)
            dweights[0] += torch.dot(dense.flatten(), dmixed.flatten())
            # The softmax branch: dense * (dmixed - sum over keys of dense * dmixed).
            dscores = torch._softmax_backward_data(dmixed, dense, -1, dense.dtype, grad_input=mixed)
            dmixed.mul_(sparse_root)
            dweights[1] += torch.dot(sparse_root.flatten(), dmixed.flatten())
            dscores.mul_(dense_share).add_(dmixed, alpha=2 * sparse_share)
            dq[block.at] = torch.bmm(dscores, block.key).mul_(scale)
            dk[block.at] = torch.bmm(dscores.mT, block.query).mul_(scale)
            if bias is not None:
                dbias[block.at[1]] += dscores.sum(0)
    return dq, dk, dv, dweights.to(weights.dtype), dbias


@_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    regions: Tensor | None,
    scale: float,
) -> tuple[Tensor, ...]:
    dbias = q.new_empty(0) if bias is None else torch.empty_like(bias)
    return empty_heads(q), empty_heads(k), empty_heads(v), torch.empty_like(weights), dbias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, weights, bias, regions = ctx.saved_tensors
    dq, dk, dv, dweights, dbias = _backward(grad, q, k, v, weights, bias, regions, ctx.scale)
    return dq, dk, dv, dweights, None if bias is None else dbias, None, None


_forward.register_autograd(_gradients, setup_context=_setup_context)
