"""Measurements side by side: times taken by turns, peak memory, the machine's description."""

from __future__ import annotations

import gc
import importlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from semanir_plugin.extensions import import_named, imported

__all__ = ["Times", "describe_machine", "peak_mib", "read_commit", "take_turns"]


class Times(NamedTuple):
    """Times of a function, in milliseconds.

    Attributes:
        processor: The least processor time, of all threads together: what other work disturbs least. On a GPU `least`.
        least: The least by the clock.
        median: By the clock.
    """

    processor: float
    least: float
    median: float


def take_turns(functions: Sequence[Callable[[], Any]], repeats: int, device: str) -> list[Times]:
    """Time functions by turns, so that a disturbance meets all of them, after two turns that warm up."""
    measure = _cuda_ms if device == "cuda" else _cpu_ms
    turns = [[measure(function) for function in functions] for _ in range(2 + repeats)][2:]
    return [_summarise(each) for each in zip(*turns, strict=True)]


def _summarise(runs: Sequence[tuple[float, float]]) -> Times:
    processor, clock = zip(*runs, strict=True)
    return Times(min(processor), min(clock), statistics.median(clock))


def _cpu_ms(function: Callable[[], Any]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return 1000 * (time.process_time() - processor), 1000 * (time.perf_counter() - clock)


def _cuda_ms(function: Callable[[], Any]) -> tuple[float, float]:
    import torch

    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    function()
    stop.record()
    stop.synchronize()
    return (start.elapsed_time(stop),) * 2


def peak_mib(prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...], device: str) -> float | None:
    """Return by how much running what `prepare(*arguments)` returns raises peak memory, in MiB.

    On a GPU by PyTorch's allocator; else by a fresh process's high-water mark, on Linux only. `prepare` is a module's
    function, so that the fresh process finds it.
    """
    if device == "cuda":
        return _cuda_peak_mib(prepare(*arguments))
    if not Path("/proc/self/clear_refs").exists():
        return None
    with get_context("spawn").Pool(1, import_named, (imported(),)) as pool:
        return pool.apply(_process_peak_mib, (prepare, arguments))


def _cuda_peak_mib(function: Callable[[], Any]) -> float:
    import torch

    function()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _process_peak_mib(prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> float:
    # PyTorch imports its compiler, 100 MiB, at the first registered op that trains: no memory of what is measured.
    importlib.import_module("torch._dynamo")
    function = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
    before = _high_water_mib()
    function()
    return _high_water_mib() - before


def _high_water_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def describe_machine(device: str) -> str:
    """Return a description of the machine: processor, GPU and versions."""
    import torch

    if device == "cuda":
        hardware = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {_describe_triton()}"
    else:
        threads, capability = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
        hardware = f"{platform.machine()}, {threads} threads, {capability}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, commit {read_commit() or 'unknown'}"
    return f"{hardware}, {versions}, {time.strftime('%Y-%m-%d')}"


def read_commit() -> str | None:
    """Return the commit of the package, where it runs from a clone."""
    clone = Path(__file__).resolve().parents[3]
    if not (clone / ".git").exists():  # installed elsewhere, perhaps within a clone of something else
        return None
    command = ["git", "-C", str(clone), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _describe_triton() -> str:
    try:
        import triton
    except ImportError:
        return "no triton"
    return f"triton {triton.__version__}"
