"""GELU as it is defined, the truth for the fast paths."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gelu"]


def gelu(x: Tensor) -> Tensor:
    """Return x times the share of the normal distribution below x; computed in fp32 at least."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.erfc(-wide / math.sqrt(2)) / 2).to(x.dtype)
