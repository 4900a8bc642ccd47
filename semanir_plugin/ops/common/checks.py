"""What ops refuse of their arguments, by one rule and in the same words: batches may be empty, nothing else may."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_heads", "check_one_device", "check_regions", "check_sizes"]


def check_heads(q: Tensor, k: Tensor, v: Tensor, *, any_value_width: bool) -> None:
    """Raise a ValueError unless q and k are (B, H, N, D), and v too, or (B, H, N, E), all of one floating dtype.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        any_value_width: Whether E may differ from D.
    """
    shapes = [tuple(each.shape) for each in (q, k, v)]
    if q.ndim != 4 or q.shape != k.shape or v.ndim != 4 or q.shape[:3] != v.shape[:3]:
        raise ValueError(f"q, k and v must have one shape (B, H, N, D), but for the width of v, got {shapes}")
    if not any_value_width and q.shape != v.shape:
        raise ValueError(f"q, k and v must have one shape (B, H, N, D), got {shapes}")
    check_sizes("q", q, "H, N and D")
    check_sizes("v", v, "H, N and D")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k and v must have one floating dtype, got {q.dtype}, {k.dtype}, {v.dtype}")


def check_sizes(name: str, x: Tensor, sizes: str) -> None:
    """Raise a ValueError if a size of `x` but the first, B, is 0: there are no scores and no norms of nothing."""
    if any(size == 0 for size in x.shape[1:]):
        raise ValueError(f"{name} must have {sizes} of at least 1, got shape {tuple(x.shape)}")


def check_one_device(*devices: torch.device) -> None:
    """Raise a ValueError unless all devices are the same."""
    if len(set(devices)) > 1:
        raise ValueError(f"all inputs must be on one device, got {sorted(map(str, set(devices)))}")


def check_regions(regions: Tensor, windows: int, tokens: int, device: torch.device) -> None:
    """Raise a ValueError unless `regions` are integers or booleans (R, N) on `device`, R a divisor of B.

    Args:
        regions: Labels.
        windows: B.
        tokens: N.
        device: Where they must be.
    """
    fits = regions.ndim == 2 and regions.shape[1] == tokens
    if not fits or regions.shape[0] == 0 or windows % regions.shape[0]:
        raise ValueError(
            f"regions must have shape (R, N) with N = {tokens} and R a divisor of B = {windows}, "
            f"got {tuple(regions.shape)}"
        )
    if regions.is_floating_point() or regions.is_complex() or regions.device != device:
        raise ValueError(f"regions must be integers or booleans on {device}, got {regions.dtype} on {regions.device}")
