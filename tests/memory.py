"""Measure memory so that nothing that other tests left hides it or adds to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT

# From this size on glibc maps each block by itself and returns it when it is freed: none is used again, or kept.
AS_TAKEN = {"MALLOC_MMAP_THRESHOLD_": "262144"}


def measure_alone(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Return what Python prints, given such arguments, in a process of its own."""
    variables = {**os.environ, **(AS_TAKEN if environment is None else environment)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, check=True
    ).stdout


@contextmanager
def taking_less_than(mib: float) -> Iterator[None]:
    """Check that the block raises this process's memory by less than this at its peak, on Linux.

    `ru_maxrss` cannot tell: it remembers the largest peak so far, and a new process begins with that of its parent.
    """
    if not Path("/proc/self/clear_refs").exists():
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
    before = peak_mib()
    yield
    assert peak_mib() - before < mib


def peak_mib() -> float:
    """Return the peak of this process's memory on Linux, since it began or since it was told to start anew."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
