"""Measure memory in a process of its own, where nothing that other tests left hides it or adds to it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import ROOT

# From this size on glibc maps each block by itself and returns it when it is freed: none is used again, or kept.
AS_TAKEN = {"MALLOC_MMAP_THRESHOLD_": "262144"}


def measure_alone(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Return what Python prints, given such arguments, in a process of its own."""
    variables = {**os.environ, **(AS_TAKEN if environment is None else environment)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, check=True
    ).stdout
