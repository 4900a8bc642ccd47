"""Layer normalisation on CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.common import native_support

__all__ = ["BF16_SOURCE", "SOURCE", "normalise"]

SOURCE = Path(__file__).with_name("native.c")
BF16_SOURCE = Path(__file__).with_name("native_bf16.c")


def normalise(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None) -> Tensor:
    """Return (..., C); arguments as in `ops.layer_norm`, x and residual fp32 or both bfloat16, weight and bias fp32."""
    if not torch.is_grad_enabled():
        return _forward(x, weight, bias, eps, residual)
    out: Tensor = _LayerNorm.apply(x, weight, bias, eps, residual)
    return out


class _LayerNorm(torch.autograd.Function):
    """Keeps only what it was given: mean and deviation of a row are computed again from the row."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None) -> Tensor:
        return _forward(x, weight, bias, eps, residual)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, ctx.eps, _ = inputs
        ctx.save_for_backward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient a gradient is wanted: by PyTorch's own operators
            out = F.layer_norm(x, weight.shape, weight, bias, ctx.eps)
            gradients = torch.autograd.grad(out, (x, weight, bias), grad, create_graph=True)
        else:
            gradients = _backward(grad, x, weight, ctx.eps)
        return *gradients, None, grad if ctx.needs_input_grad[4] else None


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    residual = None if residual is None else residual.contiguous()
    given = (x.contiguous(), weight.contiguous(), bias.contiguous(), residual)
    native_support.run(_source(x), "normalise", *given, *_sizes(x), eps, out)
    return out


def _backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    rows, width = _sizes(x)
    parts = native_support.load(_source(x)).task_count(rows)
    sums = x.new_empty(parts, 2, width, dtype=torch.float32)
    given = (grad.contiguous(), x.contiguous(), weight.contiguous())
    native_support.run(_source(x), "gradients", *given, rows, width, eps, dx, sums)
    dweight, dbias = sums.sum(0)
    return dx, dweight, dbias


def _sizes(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[-1], x.shape[-1]


def _source(x: Tensor) -> Path:
    return BF16_SOURCE if x.dtype == torch.bfloat16 else SOURCE
