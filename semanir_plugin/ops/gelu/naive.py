"""GELU as it is defined, the truth for the fast paths."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gelu"]


def gelu(x: Tensor) -> Tensor:
    """Return x times the share of the normal distribution below x."""
    return x * torch.erfc(-x / math.sqrt(2)) / 2
