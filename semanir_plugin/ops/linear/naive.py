"""A linear layer as it is defined, the truth for the fast paths."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast

__all__ = ["linear"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., O); arguments as in `ops.linear`, computed in fp32 at least and rounded once."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    with without_autocast(x.device.type):
        out = torch.einsum("...i,oi->...o", x.to(dtype), weight.to(dtype))
        return (out if bias is None else out + bias).to(x.dtype)
