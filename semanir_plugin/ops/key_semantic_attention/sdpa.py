"""Key-semantic attention through PyTorch's fused attention, with bias and dictionary folded into one additive mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend"]

# Elements of the (B, H, N, N) mask held at once: 128 MiB of fp32.
CHUNK_ELEMENTS = 1 << 25


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, E); arguments as in `key_semantic_attention`."""
    if bias is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=semantics.mask()[:, None], scale=scale)
    bias = bias.to(q.dtype)
    mask = semantics.additive_mask(q.dtype)[:, None]  # (B, 1, N, N)
    b, h, n, _ = q.shape
    step = max(1, CHUNK_ELEMENTS // max(h * n * n, 1))
    parts = (slice(start, start + step) for start in range(0, max(b, 1), step))
    outputs = [F.scaled_dot_product_attention(q[p], k[p], v[p], attn_mask=bias + mask[p], scale=scale) for p in parts]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
