"""Fixtures of the native kernels' tests."""

from __future__ import annotations

import platform

import pytest

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
    native_support._compiled.cache_clear()
    yield request.param
    native_support._compiled.cache_clear()
