"""The dictionary by threshold: compare every similarity with the k-th largest of its row, and settle ties by index."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.key_semantics.similarity import each_chunk, similarities

__all__ = ["select_keys"]

# Similarities held at once, in elements: 64 MiB of fp32.
CHUNK_ELEMENTS = 1 << 24
# Features below this cannot make a NaN: no product of them, nor a sum of a million, overflows fp32.
LARGEST_SAFE = 1e16


@torch.library.custom_op("semanir_plugin::select_keys_threshold", mutates_args=())
def select_keys(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    """Return the (B, N, N) bool mask of kept keys; arguments as in `build_key_semantics`, k <= N.

    An op of its own, which torch.compile does not look into: what is computed depends on whether there are ties.
    """
    b, n, _ = x.shape
    if regions is not None:
        regions = regions.repeat(b // regions.shape[0], 1)
    if k >= n:
        return _allowed(x, regions)
    mask = torch.empty(b, n, n, dtype=torch.bool, device=x.device)
    for part in each_chunk(b, n, CHUNK_ELEMENTS):
        mask[part] = _select(x[part], k, None if regions is None else regions[part], cosine)
    return mask


@select_keys.register_fake
def _(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1], x.shape[1]), dtype=torch.bool)


def _allowed(x: Tensor, regions: Tensor | None) -> Tensor:
    if regions is None:
        return x.new_ones((x.shape[0], x.shape[1], x.shape[1]), dtype=torch.bool)
    return regions[:, :, None] == regions[:, None, :]


def _select(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    s = similarities(x, cosine)
    if not x.abs().max() < LARGEST_SAFE:  # also where it is NaN
        s.masked_fill_(s.isnan(), -torch.inf)
    outside = None
    if regions is not None:
        outside = ~_allowed(x, regions)
        s.masked_fill_(outside, -torch.inf)
    kth = s.topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    mask = s >= kth
    if mask.count_nonzero() > k * kth.numel():  # every row has at least k, so some have more
        above = s > kth
        tied = mask ^ above
        if outside is not None:
            tied &= ~outside
        room = k - above.sum(-1, keepdim=True, dtype=torch.int32)
        mask = above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))
    elif outside is not None:
        mask &= ~outside
    return mask
