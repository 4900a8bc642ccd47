"""Gradients of a linear layer's weight and bias on CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path

from torch import Tensor

from semanir_plugin.ops.common import native_support

__all__ = ["SOURCE", "parameter_gradients"]

SOURCE = Path(__file__).with_name("native.c")
# Tokens whose products are summed apart, so that threads can do so side by side, and how many parts at most. Whatever
# the number of threads: sums are the same for any number of them.
PART = 1024
MOST_PARTS = 16


def parameter_gradients(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return grad^T x, (O, I), and the sum of grad, (O,), for fp32 tokens x (N, I) and grad (N, O)."""
    (tokens, inputs), outputs = x.shape, grad.shape[1]
    parts = max(1, min(MOST_PARTS, tokens // PART))
    sums = x.new_empty(parts, outputs * (inputs + 1))
    sizes = (ctypes.c_ssize_t(tokens), outputs, inputs, parts)
    native_support.run(SOURCE, "gradients", x.contiguous(), grad.contiguous(), *sizes, sums)
    weight, bias = sums.sum(0).split((outputs * inputs, outputs))
    return weight.view(outputs, inputs), bias
