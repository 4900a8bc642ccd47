"""Adaptive sparse attention in operators that exporters know, for any number of windows."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast

__all__ = ["attend"]

# What scores across regions are lowered by.
PENALTY = 100.0


def attend(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> Tensor:
    """Return (B, H, N, D); arguments as in `adaptive_sparse_attention`, the bias dense; computed in fp32 at least."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    with without_autocast(q.device.type):
        scores = (q.to(dtype) * scale) @ k.to(dtype).mT
        if bias is not None:
            scores = scores + bias.to(dtype)
        if regions is not None:
            scores = scores - _across(regions, q.shape[0]).to(dtype) * PENALTY
        sparse = scores.relu()
        mixed = weights[0] * scores.softmax(-1) + weights[1] * (sparse * sparse)
        return (mixed @ v.to(dtype)).to(v.dtype)


def _across(regions: Tensor, windows: int) -> Tensor:
    """Return (B, 1, N, N), whether two tokens of a window are of different regions."""
    labels = regions.repeat(windows // regions.shape[0], 1)
    return labels[:, None, :, None] != labels[:, None, None, :]
