"""The heads of scaled cosine attention in PyTorch's operators, as compilers, exporters and other devices take them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["split"]


def split(qkv: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v, each (B, H, N, D); arguments as in `cosine_qkv`."""
    b, n, width = qkv.shape
    heads = len(scale)
    q, k, v = qkv.view(b, n, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    q = F.normalize(q, dim=-1) * scale.view(heads, 1, 1)
    k = F.normalize(k, dim=-1)
    # Under autocast the norms are fp32 and v is not.
    return q.to(v.dtype), k.to(v.dtype), v
