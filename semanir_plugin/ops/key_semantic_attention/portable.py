"""Key-semantic attention in operators that exporters know: dense scores, and one mask for all heads and layers."""

from __future__ import annotations

from torch import Tensor

from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend"]


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E); arguments as in `key_semantic_attention`."""
    scores = (q * scale) @ k.mT  # (B, H, N, N)
    if bias is not None:
        scores = scores + bias
    scores = scores + semantics.additive_mask(scores.dtype)[:, None]
    return scores.softmax(-1).to(v.dtype) @ v
