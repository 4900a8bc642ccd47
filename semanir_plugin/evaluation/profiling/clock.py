"""Measure the time of a call, and by how much it raises the memory in use."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from semanir_plugin.errors import UserError
from semanir_plugin.inference.tile_memory import peak_memory

__all__ = ["median_ms", "peak_mib", "time_ms"]

LONG = 2000.0
"""Milliseconds beyond which warming up hardly counts."""


def time_ms(run: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds that a call takes, until the device has done its work."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return 1000 * (time.perf_counter() - start)


def median_ms(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median of several calls in milliseconds, after one that warms up; a call of seconds counts alone."""
    first = time_ms(run, device)
    if first > LONG:
        return first
    return statistics.median(time_ms(run, device) for _ in range(repeats))


def peak_mib(run: Callable[[], object], device: torch.device) -> float | None:
    """Return by how many MiB a call raises the memory in use at its peak; None where that cannot be measured."""
    try:
        return max(peak_memory(run, device), 0) / 2**20
    except UserError:
        run()
        return None


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
