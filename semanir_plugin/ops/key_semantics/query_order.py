"""An order of the queries that puts those with like keys side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common.autocast import without_autocast

__all__ = ["order_queries"]

# Steps of the power iteration: for a hint, a digit or two of the direction do.
STEPS = 3


@torch.no_grad()
def order_queries(x: Tensor, regions: Tensor | None) -> Tensor:
    """Return (B, N) int32, a permutation of each window's tokens: by region, then along the first principal component.

    Args:
        x: (B, N, C) features; where some are not finite, or too large to be squared, any permutation may come out.
        regions: (R, N) integer labels as in `build_key_semantics`.
    """
    with without_autocast(x.device.type):
        along = _first_component(x.to(torch.promote_types(x.dtype, torch.float32)))
    order = along.argsort(dim=-1, stable=True)
    if regions is not None:
        labels = regions.repeat(x.shape[0] // regions.shape[0], 1).gather(1, order)
        order = order.gather(1, labels.argsort(dim=-1, stable=True))
    return order.to(torch.int32)


def _first_component(x: Tensor) -> Tensor:
    """Return (B, N), each token's coordinate along its window's direction of largest variance, up to a factor.

    In few passes over x, and few calls: on a GPU each takes as long as a kernel of this size.
    """
    b, n, c = x.shape
    mean = x.mean(1, keepdim=True)
    covariance = torch.baddbmm(x.mT @ x, mean.mT, mean, alpha=-n)  # (B, C, C), times N
    widest, channel = covariance.diagonal(dim1=1, dim2=2).max(-1, keepdim=True)
    covariance = covariance / widest.unsqueeze(-1).clamp_min(1e-30)
    # The column of the channel that varies most: a mixture of the components in which the first has the most say. Each
    # step makes it longer by C at most.
    direction = covariance.gather(2, channel.unsqueeze(-1).expand(b, c, 1))
    for _ in range(STEPS):
        direction = covariance @ direction
    return (x @ direction).squeeze(-1)
