"""Memory layout of the tensors that fast paths return."""

from __future__ import annotations

from torch import Tensor

__all__ = ["empty_heads"]


def empty_heads(x: Tensor) -> Tensor:
    """Return an empty (B, H, N, D) like `x`, laid out (B, N, H, D): joining the heads of it needs no copy."""
    b, h, n, d = x.shape
    return x.new_empty(b, n, h, d).transpose(1, 2)
