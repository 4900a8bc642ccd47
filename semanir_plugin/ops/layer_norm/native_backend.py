"""Layer normalisation on CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.common.eager import are_plain

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
        *wanted, _, wants_residual = ctx.needs_input_grad
        # Of the gradient a gradient is wanted, or somebody looks on: by PyTorch's own operators.
        if torch.is_grad_enabled() or not are_plain((grad, x, weight)) or grad.dtype != x.dtype:
            gradients = _gradients_by_pytorch(grad, x, weight, bias, ctx.eps, wanted)
        else:
            gradients = _backward(grad, x, weight, ctx.eps)
        return *gradients, None, grad if wants_residual else None


def _gradients_by_pytorch(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return those that are wanted of the gradients of x, weight and bias, None for the others."""
    shape = weight.shape
    _, *moments = torch.native_layer_norm(x, shape, weight, bias, eps)
    gradients = torch.ops.aten.native_layer_norm_backward(grad, x, shape, *moments, weight, bias, list(wanted))
    return tuple(gradients)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    residual = None if residual is None else residual.contiguous()
    given = (x.contiguous(), weight.contiguous(), bias.contiguous(), residual)
    native_support.run(_source(x), "normalise", *given, *_sizes(x), float(eps), out)
    return out


def _backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    rows, width = _sizes(x)
    parts = native_support.load(_source(x)).task_count(rows)
    sums = x.new_empty(parts, 2, width, dtype=torch.float32)
    given = (grad.contiguous(), x.contiguous(), weight.contiguous())
    native_support.run(_source(x), "gradients", *given, rows, width, float(eps), dx, sums)
    dweight, dbias = sums.sum(0)
    return dx, dweight, dbias


def _sizes(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[-1], x.shape[-1]


def _source(x: Tensor) -> Path:
    return BF16_SOURCE if x.dtype == torch.bfloat16 else SOURCE
