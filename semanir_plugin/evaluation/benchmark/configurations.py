"""Threads and instruction sets that benchmarks are repeated with, each in a process of its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from semanir_plugin.extensions import import_named, imported

__all__ = ["Configuration", "add_configurations", "read_configurations"]

# What keeps PyTorch, its libraries and our native kernels to an instruction set; they read it when they are loaded.
INSTRUCTION_SETS = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


@dataclass(frozen=True)
class Configuration:
    """Threads and instruction set of a process.

    Attributes:
        threads: Their number; None: what the environment says.
        isa: One of `INSTRUCTION_SETS`.
    """

    threads: int | None = None
    isa: str = "native"

    def environment(self) -> dict[str, str]:
        """Return the variables that make a process compute so."""
        threads = {} if self.threads is None else {"OMP_NUM_THREADS": str(self.threads)}
        return {**threads, **INSTRUCTION_SETS[self.isa]}

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a module's function, in a fresh process unless this one is configured so already; return its result."""
        if self.environment().items() <= os.environ.items():
            return function(*arguments)
        pool = ProcessPoolExecutor(1, get_context("spawn"), import_named, (imported(),))
        with _changed(self.environment()), pool:
            return pool.submit(function, *arguments).result()


def add_configurations(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `read_configurations` reads."""
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="measure with so many, one after the other")
    isas = list(INSTRUCTION_SETS)
    parser.add_argument("--isa", nargs="+", choices=isas, default=isas[:1], help="of the processor (native: all of it)")


def read_configurations(args: argparse.Namespace) -> list[Configuration]:
    """Return every combination of threads and instruction sets asked for."""
    return [Configuration(threads, isa) for isa in args.isa for threads in args.threads or [None]]


@contextmanager
def _changed(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
