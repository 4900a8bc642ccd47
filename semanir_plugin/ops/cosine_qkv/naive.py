"""The heads of scaled cosine attention as they are defined, the truth for the fast paths."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["split"]


def split(qkv: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v, each (B, H, N, D); arguments as in `cosine_qkv`, computed in fp32 at least."""
    b, n, width = qkv.shape
    heads = len(scale)
    wide = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
    q, k, v = wide.view(b, n, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    q = _unit(q) * scale.to(wide.dtype).view(heads, 1, 1)
    return q.to(qkv.dtype), _unit(k).to(qkv.dtype), v.to(qkv.dtype)


def _unit(x: Tensor) -> Tensor:
    lengths: Tensor = x.norm(dim=-1, keepdim=True)
    return x / lengths.clamp_min(1e-12)
