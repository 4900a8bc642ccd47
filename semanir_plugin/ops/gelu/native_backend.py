"""GELU on CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support

__all__ = ["BF16_SOURCE", "SOURCE", "gelu"]

SOURCE = Path(__file__).with_name("native.c")
BF16_SOURCE = Path(__file__).with_name("native_bf16.c")


def gelu(x: Tensor) -> Tensor:
    """Return GELU of a contiguous tensor of fp32 or bfloat16."""
    if not torch.is_grad_enabled():
        return _run("gelu", x)
    out: Tensor = _Gelu.apply(x)
    return out


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _run("gelu", x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient a gradient is wanted: by PyTorch's own operator
            result: Tensor = torch.ops.aten.gelu_backward(grad, x)
            return result
        return _run("gradient", grad.contiguous(), x)


def _run(function: str, *given: Tensor) -> Tensor:
    out = torch.empty_like(given[0])
    source = BF16_SOURCE if out.dtype == torch.bfloat16 else SOURCE
    native_support.run(source, function, *given, ctypes.c_ssize_t(out.numel()), out)
    return out
