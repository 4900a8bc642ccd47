"""Torch-Mask: dense scores, all but the dictionary's set to -inf (SemanIR, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend"]


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E); arguments as in `key_semantic_attention`."""
    scores = (q * scale) @ k.mT  # (B, H, N, N)
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~semantics.mask()[:, None], -torch.inf)
    return torch.softmax(scores, -1).to(v.dtype) @ v
