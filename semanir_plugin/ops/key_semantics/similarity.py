"""Similarities of the tokens of a window, in chunks of windows that fit in a cache or at least in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast

__all__ = ["comparable", "each_chunk", "similarities"]


def comparable(x: Tensor, cosine: bool) -> Tensor:
    """Return the features to take inner products of: in fp32 at least, normalised if `cosine`."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.normalize(x, dim=-1) if cosine else x


def similarities(x: Tensor, cosine: bool) -> Tensor:
    """Return (B, N, N) products of (B, N, C) features, see `comparable`."""
    x = comparable(x, cosine)
    with without_autocast(x.device.type):
        return x @ x.mT


def each_chunk(windows: int, tokens: int, elements: int) -> Iterator[slice]:
    """Cut a batch of windows into parts with at most so many pairs of tokens, or of one window."""
    step = max(1, elements // (tokens * tokens or 1))
    for start in range(0, windows, step):
        yield slice(start, min(start + step, windows))
