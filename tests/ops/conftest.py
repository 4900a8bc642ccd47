"""What tests of native kernels share."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from semanir_plugin.ops.common import native_compiler, native_support

# A processor's own vectors, and narrower ones that it can compile for.
TARGETS = [None, *(("-march=x86-64-v3", "-march=x86-64") if platform.machine() == "x86_64" else ())]
LANES = {"-march=x86-64-v3": 8, "-march=x86-64": 4}


@pytest.fixture(params=TARGETS, ids=lambda target: target or "own vectors")
def target(request, monkeypatch):
    """Compile for one processor after another."""
    if request.param is None:
        yield None
        return
    monkeypatch.setattr(native_compiler, "TARGETS", (request.param,))
    monkeypatch.setattr(native_compiler, "LIMITS", {})  # whatever ATEN_CPU_CAPABILITY says
    native_support._compiled.cache_clear()
    yield request.param
    native_support._compiled.cache_clear()


def assert_threads_change_nothing(function: Callable[[], Iterable[Tensor]]) -> None:
    """Compare what a function returns on one, two and seven threads, to the bit."""
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            found.append(list(function()))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(other, found[0], strict=True))
