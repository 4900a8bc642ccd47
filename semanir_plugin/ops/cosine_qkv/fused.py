"""The op that reads and writes every number once, by the kernels of a backend."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common.triton_support import padded_width
from semanir_plugin.ops.cosine_qkv import native_backend

__all__ = ["split_op"]


@torch.library.custom_op("semanir_plugin::cosine_qkv", mutates_args=())
def split_op(qkv: Tensor, scale: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v by "native" or "triton"; arguments as in `cosine_qkv`, scale fp32.

    The rows of "triton" are aligned, as `aligned_rows` has them: its kernels of attention then read them as they are.
    """
    q, k, v = _empty_heads(qkv, scale, backend)
    _kernels(backend).split(qkv.contiguous(), scale.contiguous(), q, k, v)
    return q, k, v


@split_op.register_fake
def _(qkv: Tensor, scale: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_heads(qkv, scale, backend)


@torch.library.custom_op("semanir_plugin::cosine_qkv_backward", mutates_args=())
def join_op(qkv: Tensor, scale: Tensor, dq: Tensor, dk: Tensor, dv: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Return the gradients of qkv and scale."""
    dqkv = qkv.new_empty(qkv.shape)
    dq, dk, dv = (each if each.stride(-1) == 1 else each.contiguous() for each in (dq, dk, dv))
    return dqkv, _kernels(backend).join(qkv.contiguous(), scale.contiguous(), dq, dk, dv, dqkv)


@join_op.register_fake
def _(qkv: Tensor, scale: Tensor, dq: Tensor, dk: Tensor, dv: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return qkv.new_empty(qkv.shape), scale.new_empty(scale.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor, None]:
    return *join_op(*ctx.saved_tensors, dq, dk, dv, ctx.backend), None


split_op.register_autograd(_backward, setup_context=_setup_context)


def _kernels(backend: str) -> ModuleType:
    if backend == "native":
        return native_backend
    # Imported when it is asked for: Triton takes a second to import, and is not on every machine.
    from semanir_plugin.ops.cosine_qkv import triton_backend

    return triton_backend


def _empty_heads(qkv: Tensor, scale: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    b, n, width = qkv.shape
    d = width // (3 * len(scale))
    shape = (b, len(scale), n, padded_width(d) if backend == "triton" else d)
    return qkv.new_empty(shape)[..., :d], qkv.new_empty(shape)[..., :d], qkv.new_empty(shape)[..., :d]
