"""GELU on CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.common.eager import are_plain

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
        # Of the gradient a gradient is wanted, or somebody looks on: by PyTorch's own operator.
        if torch.is_grad_enabled() or not are_plain((grad, x)) or grad.dtype != x.dtype:
            result: Tensor = torch.ops.aten.gelu_backward(grad, x)
            return result
        return _run("gradient", grad.contiguous(), x.contiguous())


def _run(function: str, *given: Tensor) -> Tensor:
    out = torch.empty_like(given[0])
    source = BF16_SOURCE if out.dtype == torch.bfloat16 else SOURCE
    native_support.run(source, function, *given, ctypes.c_ssize_t(out.numel()), out)
    return out
