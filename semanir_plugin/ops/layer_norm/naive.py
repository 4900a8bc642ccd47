"""Layer normalisation as it is defined, the truth for the fast paths."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["layer_norm"]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None) -> Tensor:
    """Return (..., C); arguments as in `ops.layer_norm`, computed in fp32 at least and rounded once."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    out = centred / (variance + eps).sqrt() * weight + bias
    if residual is None:
        return out.to(x.dtype)
    return (residual + out).to(torch.promote_types(x.dtype, residual.dtype))
