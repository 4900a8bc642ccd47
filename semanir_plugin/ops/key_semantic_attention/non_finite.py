"""Keys and values that are NaN or infinite reach the queries that chose them, and no others.

PyTorch's operators compute all pairs of tokens and give those that are not in the dictionary a weight of zero, but zero
times NaN is NaN: one such value would make every query of its window NaN, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from semanir_plugin.ops.common.eager import values_may_decide
from semanir_plugin.ops.key_semantics import KeySemantics
from semanir_plugin.ops.key_semantics.packing import pack

__all__ = ["attend_contained"]

Attend = Callable[[Tensor, Tensor, Tensor, KeySemantics, Tensor | None, float], Tensor]


def attend_contained(
    attend: Attend, q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float
) -> Tensor:
    """Run `attend` with NaN and infinity confined to the queries that chose such keys or values.

    No gradient flows through such rows, nor to such keys and values.
    """
    if values_may_decide((k, v)) and _surely_finite(k) and _surely_finite(v):
        return attend(q, k, v, semantics, bias, scale)
    broken = ~(k.isfinite().all(-1) & v.isfinite().all(-1))  # (B, H, N)
    k, v = (each.masked_fill(broken[..., None], 0) for each in (k, v))
    out = attend(q, k, v, semantics, bias, scale)
    return out.masked_fill(_choosers(broken, semantics)[..., None], torch.nan)


def _surely_finite(x: Tensor) -> bool:
    """Tell whether all is finite, in one pass; large numbers may overflow to a false alarm."""
    return bool(x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite())


def _choosers(broken: Tensor, semantics: KeySemantics) -> Tensor:
    """Return (B, H, N), whether a query chose one of the broken tokens (B, H, N)."""
    words = semantics.packed()[:, None] & pack(broken)[:, :, None]  # (B, H, N, N / 32)
    return words.any(-1)
