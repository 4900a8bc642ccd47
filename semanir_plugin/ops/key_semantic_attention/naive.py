"""Key-semantic attention written out as the paper defines it, the truth for every fast path."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast
from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend"]


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E); arguments as in `key_semantic_attention`, computed in fp32 at least."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    with without_autocast(q.device.type):
        scores = torch.einsum("bhid,bhjd->bhij", q.to(dtype), k.to(dtype)) * scale
        if bias is not None:
            scores = scores + bias.to(dtype)
        scores = scores.masked_fill(~semantics.mask()[:, None], -torch.inf)
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.einsum("bhij,bhjd->bhid", weights, v.to(dtype)).to(v.dtype)
