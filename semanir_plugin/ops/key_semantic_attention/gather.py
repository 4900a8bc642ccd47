"""Torch-Gather: each query's keys and values copied beside it (SemanIR, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend"]


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E); arguments as in `key_semantic_attention`."""
    indices = semantics.indices()  # (B, N, k)
    keys, values = (_gather(each, indices) for each in (k, v))  # (B, H, N, k, D) and (B, H, N, k, E)
    scores = torch.einsum("bhnd,bhnkd->bhnk", q * scale, keys)
    if bias is not None:
        rows = torch.arange(q.shape[2], device=q.device)[:, None]
        scores = scores + bias[:, rows, indices].movedim(0, 1)
    # Rows with fewer keys repeat their first one, which must count once.
    repeated = torch.arange(indices.shape[-1], device=q.device) >= semantics.counts()[..., None]
    weights = torch.softmax(scores.masked_fill(repeated[:, None], -torch.inf), -1).to(v.dtype)
    return torch.einsum("bhnk,bhnkd->bhnd", weights, values)


def _gather(x: Tensor, indices: Tensor) -> Tensor:
    batch = torch.arange(x.shape[0], device=x.device)[:, None, None]
    return x.transpose(1, 2)[batch, indices].movedim(3, 1)
