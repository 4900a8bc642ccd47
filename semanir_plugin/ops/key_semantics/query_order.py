"""An order of the queries that puts those with like keys side by side."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["order_queries"]

# Steps of the power iteration: for a hint, a digit or two of the direction do.
STEPS = 3


@torch.no_grad()
def order_queries(x: Tensor, regions: Tensor | None) -> Tensor:
    """Return (B, N) int32, a permutation of each window's tokens: by region, then along the first principal component.

    Args:
        x: (B, N, C) features; NaN counts as 0 and infinity as a large number.
        regions: (R, N) integer labels as in `build_key_semantics`.
    """
    with torch.autocast(x.device.type, enabled=False):
        along = _first_component(x.to(torch.promote_types(x.dtype, torch.float32)))
    order = along.argsort(dim=-1, stable=True)
    if regions is not None:
        labels = regions.repeat(x.shape[0] // regions.shape[0], 1).gather(1, order)
        order = order.gather(1, labels.argsort(dim=-1, stable=True))
    return order.to(torch.int32)


def _first_component(x: Tensor) -> Tensor:
    """Return (B, N), each token's coordinate along its window's direction of largest variance, up to a factor."""
    x = x.nan_to_num(nan=0.0)
    x = x / x.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)  # squares neither overflow nor vanish
    x = x - x.mean(1, keepdim=True)
    covariance = x.mT @ x  # (B, C, C)
    # The column of the channel that varies most: a mixture of the components in which the first has the most say.
    widest = covariance.diagonal(dim1=1, dim2=2).argmax(-1)
    direction = covariance.gather(2, widest.view(-1, 1, 1).expand(-1, x.shape[2], 1))
    for _ in range(STEPS):
        direction = covariance @ torch.nn.functional.normalize(direction, dim=1)
    return (x @ direction).squeeze(-1)
