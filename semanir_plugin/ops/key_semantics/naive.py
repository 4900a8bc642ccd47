"""The definition of the key-semantic dictionary, sorted in full: slow, memory-hungry, the truth for every fast path."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast

__all__ = ["select_keys"]


def select_keys(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    """Return the (B, N, N) bool mask of kept keys; arguments as in `build_key_semantics`, k <= N."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if cosine:
        x = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    with without_autocast(x.device.type):
        s = torch.einsum("bic,bjc->bij", x, x)
    s = torch.where(s.isnan(), -torch.inf, s)
    if regions is None:
        allowed = torch.ones_like(s, dtype=torch.bool)
    else:
        regions = regions.repeat(x.shape[0] // regions.shape[0], 1)
        allowed = regions[:, :, None] == regions[:, None, :]
    # Two stable sorts: by similarity, then the allowed keys before the others.
    order = s.sort(dim=-1, descending=True, stable=True).indices
    order = order.gather(-1, allowed.gather(-1, order).int().sort(dim=-1, descending=True, stable=True).indices)
    mask = torch.zeros_like(allowed).scatter(-1, order[..., :k], True)
    return mask & allowed
