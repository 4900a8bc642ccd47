"""The dictionary in operators that exporters know, for any number of windows: a threshold, ties counted from the left.

The runtime's own rule for ties does not matter: only the k-th largest value is taken from its TopK.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.key_semantics.similarity import similarities

__all__ = ["select_keys"]


def select_keys(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    """Return the (B, N, N) bool mask of kept keys; arguments as in `build_key_semantics`, k <= N, but x is finite."""
    tokens = x.shape[1]
    allowed = None if regions is None else _allowed(regions, x.shape[0])
    if k >= tokens:
        return x.new_ones((x.shape[0], tokens, tokens), dtype=torch.bool) if allowed is None else allowed
    s = similarities(x, cosine)
    if allowed is not None:
        s = s.masked_fill(~allowed, -torch.inf)
    kth = s.topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    above, tied = s > kth, s == kth
    # Positions are counted in fp32, exact up to 2 ** 24: more programs sum those than whole numbers.
    room = k - above.float().sum(-1, keepdim=True)
    kept = above | (tied & (tied.float().cumsum(-1) <= room))
    return kept if allowed is None else kept & allowed


def _allowed(regions: Tensor, windows: int) -> Tensor:
    """Return (B, N, N), whether two tokens of a window are of one region."""
    labels = regions.repeat(windows // regions.shape[0], 1)
    return labels[:, :, None] == labels[:, None, :]
