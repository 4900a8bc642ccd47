"""Layer normalisation as it is defined, the truth for the fast paths."""

from __future__ import annotations

from torch import Tensor

__all__ = ["layer_norm"]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None) -> Tensor:
    """Return (..., C); arguments as in `ops.layer_norm`."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    out = centred / (variance + eps).sqrt() * weight + bias
    return out if residual is None else residual + out
