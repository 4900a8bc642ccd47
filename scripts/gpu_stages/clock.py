"""Time, memory and kernels of a call, and a device's highest rates."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from measuring import Floor

from gpu_stages.sizes import Sizes

__all__ = ["HOW", "Rates", "Work", "measure_rates", "median_ms", "peak_mib", "top_kernels"]

HOW = (
    "floor: the largest of flops, exponentials and bytes over the rates measured here. Flops are of the products with "
    "the k keys of each query alone: 2 forward, 5 more backward; exponentials one per pair forward, one more backward; "
    "bytes are of every input read once and every output written once, forward and backward each."
)


HEAD_START = 4_000_000
"""Cycles, about 2 ms, for which a GPU is kept busy while what is timed is sent to it."""


def median_ms(run: Callable[[], Any], runs: int, device: str) -> float:
    """Return the median time of a call in milliseconds, on a GPU without the host's part."""
    if device == "cpu":  # a dry run needs no warming up
        return statistics.median(_cpu_ms(run) for _ in range(runs))
    run()
    run()
    return statistics.median(_cuda_ms(run) for _ in range(runs))


def _cpu_ms(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def _cuda_ms(run: Callable[[], Any]) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(HEAD_START)  # else a GPU that waits for launches would count the waiting
    start.record()
    run()
    stop.record()
    stop.synchronize()
    result: float = start.elapsed_time(stop)
    return result


@dataclass(frozen=True)
class Work:
    """Operations, exponentials and bytes that a computation needs at least."""

    flops: float = 0.0
    exponentials: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


@dataclass(frozen=True)
class Rates:
    """Measured rates of a device, each per millisecond and when it does nothing else."""

    flops: float
    exponentials: float
    bytes: float

    def floor_ms(self, work: Work) -> float:
        """Return the least time for some work: a device can overlap all three, and do none faster."""
        return max(work.flops / self.flops, work.exponentials / self.exponentials, work.bytes / self.bytes)


@cache
def measure_rates(device: str, dtype: torch.dtype) -> Rates:
    """Measure products of large matrices of a dtype, exponentials in fp32, and bytes of a copy, read and written."""
    elements = 1 << (28 if device == "cuda" else 16)
    copied = torch.empty(2, elements, device=device)
    copied_per_ms = 8 * elements / median_ms(lambda: copied[0].copy_(copied[1]), 10, device)
    if device == "cpu":  # a dry run
        side = 256
        a = torch.randn(side, side, dtype=dtype)
        flops_per_ms = 2 * side**3 / median_ms(lambda: a @ a, 10, device)
        return Rates(flops_per_ms, elements / median_ms(copied[0].exp2, 10, device), copied_per_ms)
    floor = Floor(str(dtype).removeprefix("torch."))
    return Rates(floor.flops_per_ms, floor.exponentials_per_ms, copied_per_ms)


def peak_mib(run: Callable[[], Any], sizes: Sizes) -> float | None:
    """Return by how many MiB a call raises the memory in use at its peak; None on a CPU."""
    if sizes.device == "cpu":
        return None
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def top_kernels(run: Callable[[], Any], sizes: Sizes, most: int = 25) -> list[tuple[str, int, float]]:
    """Return (name, calls, milliseconds) of the longest kernels of a call, on the device itself."""
    from torch.profiler import ProfilerActivity, profile

    on_cpu = sizes.device == "cpu"
    with profile(activities=[ProfilerActivity.CPU if on_cpu else ProfilerActivity.CUDA]) as profiler:
        run()
        if not on_cpu:
            torch.cuda.synchronize()
    events = [(each.key[:80], each.count, _microseconds(each, on_cpu) / 1000) for each in profiler.key_averages()]
    return sorted(events, key=lambda event: -event[2])[:most]


def _microseconds(event: Any, on_cpu: bool) -> float:
    result: float = event.self_cpu_time_total if on_cpu else event.self_device_time_total
    return result
