"""Adaptive sparse self-attention written out as the paper defines it, the truth for every fast path."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast

__all__ = ["attend"]


def attend(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> Tensor:
    """Return (B, H, N, D); arguments as in `adaptive_sparse_attention`, the bias dense; computed in fp32 at least."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    with without_autocast(q.device.type):
        scores = torch.einsum("bhid,bhjd->bhij", q.to(dtype), k.to(dtype)) * scale
        if bias is not None:
            scores = scores + bias.to(dtype)
        if regions is not None:
            labels = regions.repeat(q.shape[0] // regions.shape[0], 1)
            apart = labels[:, None, :, None] != labels[:, None, None, :]  # (B, 1, N, N)
            scores = torch.where(apart, scores - 100, scores)
        dense = torch.exp(scores - scores.amax(-1, keepdim=True))
        dense = dense / dense.sum(-1, keepdim=True)
        sparse = torch.relu(scores) ** 2
        mixed = weights[0].to(dtype) * dense + weights[1].to(dtype) * sparse
        return torch.einsum("bhij,bhjd->bhid", mixed, v.to(dtype)).to(v.dtype)
