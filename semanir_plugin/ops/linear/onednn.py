"""Linear layers by oneDNN, which has no public function in PyTorch; gradients of the weight by a native kernel."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.common.eager import are_plain
from semanir_plugin.ops.linear import native_backend

__all__ = ["is_there", "linear"]


@functools.cache
def is_there() -> bool:
    """Return whether this PyTorch was built with oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., O); arguments as in `ops.linear`, fp32 on a CPU, not empty."""
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    # Rows outside, since what the function returns may be no view: others may want to write to it.
    out: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))
    return out


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


class _Linear(torch.autograd.Function):
    """The products through oneDNN; the backward is PyTorch's where somebody looks on or wants its gradient."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        if torch.is_grad_enabled() or not are_plain((grad, x, weight)) or grad.dtype != x.dtype:
            dx = grad @ weight if wants_x else None
            return dx, grad.mT @ x if wants_weight else None, grad.sum(0) if wants_bias else None
        dx = _product(grad, weight.mT) if wants_x else None
        if not wants_weight:
            return dx, None, grad.sum(0) if wants_bias else None
        if native_support.why_not(native_backend.SOURCE, x.device, x.dtype):
            return dx, _weight_gradient(x, grad), grad.sum(0) if wants_bias else None
        dweight, dbias = native_backend.parameter_gradients(x, grad)
        return dx, dweight, dbias if wants_bias else None


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    # oneDNN's function copies the first factor where it is transposed: let that be the narrower one.
    if grad.shape[1] <= x.shape[1]:
        return _product(grad.mT, x.mT)
    return _product(x.mT, grad.mT).mT
