"""Heads of scaled cosine attention for CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops import native_support

__all__ = ["SOURCE", "split", "why_not"]

SOURCE = Path(__file__).with_name("native.c")


def why_not(qkv: Tensor) -> str | None:
    """Return why the kernel does not take this projection, None if it does."""
    if reason := native_support.why_not(SOURCE, qkv.device, qkv.dtype):
        return reason
    # Half precision is what autocast makes, which has its own rules for norms.
    return None if qkv.dtype == torch.float32 else f"the kernel is for torch.float32, not {qkv.dtype}"


def split(qkv: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v, each (B, H, N, D); arguments as in `cosine_qkv`.

    Raises:
        ValueError: The kernel cannot run here, or not on such tensors.
    """
    if reason := why_not(qkv):
        raise ValueError(f"the native backend cannot be used: {reason}")
    return split_op(qkv, scale.float())


@torch.library.custom_op("semanir_plugin::cosine_qkv_native", mutates_args=())
def split_op(qkv: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v."""
    q, k, v = _empty_heads(qkv, scale)
    _run("split", qkv=qkv.contiguous(), scale=scale.contiguous(), q=q, k=k, v=v)
    return q, k, v


@split_op.register_fake
def _(qkv: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    return _empty_heads(qkv, scale)


@torch.library.custom_op("semanir_plugin::cosine_qkv_native_backward", mutates_args=())
def join_op(qkv: Tensor, scale: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of qkv and scale."""
    b, n, _ = qkv.shape
    dqkv = torch.empty(qkv.shape)
    parts = torch.empty(native_support.load(SOURCE).task_count(b, n), len(scale))
    dq, dk, dv = (each if each.stride(-1) == 1 else each.contiguous() for each in (dq, dk, dv))
    _run("join", qkv=qkv.contiguous(), scale=scale.contiguous(), dq=dq, dk=dk, dv=dv, dqkv=dqkv, dscale=parts)
    return dqkv, parts.sum(0)


@join_op.register_fake
def _(qkv: Tensor, scale: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor]:
    return qkv.new_empty(qkv.shape), torch.empty_like(scale)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor, Tensor]:
    return join_op(*ctx.saved_tensors, dq, dk, dv)


split_op.register_autograd(_backward, setup_context=_setup_context)


def _empty_heads(qkv: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    b, n, width = qkv.shape
    return tuple(qkv.new_empty(b, len(scale), n, width // (3 * len(scale))) for _ in range(3))


class _Arguments(ctypes.Structure):
    """`Split` of `native.c`."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("batch", "heads", "tokens", "width")),
        *((f"{name}_stride", ctypes.c_ssize_t * 3) for name in ("dq", "dk", "dv")),
        *((name, ctypes.c_void_p) for name in ("qkv", "scale", "q", "k", "v", "dq", "dk", "dv", "dqkv", "dscale")),
    )


def _run(function: str, **tensors: Tensor) -> None:
    """Run a function of the library on tensors, some of which it writes."""
    b, n, width = tensors["qkv"].shape
    heads = len(tensors["scale"])
    arguments = _Arguments(batch=b, heads=heads, tokens=n, width=width // (3 * heads))
    for name, tensor in tensors.items():
        setattr(arguments, name, tensor.data_ptr() or None)
        if name in ("dq", "dk", "dv"):
            setattr(arguments, f"{name}_stride", (ctypes.c_ssize_t * 3)(*tensor.stride()[:3]))
    if getattr(native_support.load(SOURCE), function)(ctypes.byref(arguments), torch.get_num_threads()):
        raise MemoryError("no memory was left to split a projection into heads")
