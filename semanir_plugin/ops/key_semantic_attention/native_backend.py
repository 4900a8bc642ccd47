"""Key-semantic attention for CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops import native_support
from semanir_plugin.ops.common.layout import empty_heads
from semanir_plugin.ops.common.position_table import dense_bias, is_table
from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["SOURCE", "attend"]

SOURCE = Path(__file__).with_name("native.c")
# Copies of a dense bias gradient that threads may fill side by side, in elements: 256 MiB.
LARGEST_BIAS_PARTS = 1 << 26
# What the kernels read and write by strides.
STRIDED = ("q", "k", "v", "grad", "out")


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, D); arguments as in `key_semantic_attention`, the bias also as a table.

    Raises:
        ValueError: The kernel cannot run here, or not on such tensors.
    """
    if reason := native_support.why_not(SOURCE, q.device, q.dtype):
        raise ValueError(f"the native backend cannot be used: {reason}")
    bias = None if bias is None else _readable(bias.float(), q.shape[2])
    out, _ = attend_op(*(_rows(each.float()) for each in (q, k, v)), semantics.mask(), bias, scale)
    return out.to(v.dtype)


def _readable(bias: Tensor, tokens: int) -> Tensor:
    # A vector of queries reads its bias from one row of the table, so it must stand in one row of the window.
    if is_table(bias, tokens) and (bias.shape[1] + 1) // 2 % _lane_count():
        bias = dense_bias(bias, tokens)
    return bias


@native_support.constant
def _lane_count() -> int:
    return native_support.load(SOURCE).lane_count()


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op("semanir_plugin::key_semantic_attention_native", mutates_args=())
def attend_op(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return (B, H, N, D) and the logarithm to base 2 of each query's sum of exponentials, (B, H, N)."""
    q, k, v = _rows(q), _rows(k), _rows(v)
    out, lse = empty_heads(q), q.new_empty(q.shape[:3])
    call = _Call(q, k, v, mask, bias, scale)
    tasks = max(1, q.shape[0] * q.shape[1])
    splits = -(-4 * torch.get_num_threads() // tasks)  # parts of a window, for threads that have no head of their own
    call.run("attention_forward", splits=splits, out=out, lse=lse)
    return out, lse


@attend_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    return empty_heads(q), q.new_empty(q.shape[:3])


def _parts_per_head(heads: int) -> int:
    """Return in how many parts each head's work is done so that every thread gets four or more, and all as many."""
    threads = torch.get_num_threads()
    least = -(-4 * threads // max(heads, 1))
    return least + -least % (threads // math.gcd(heads, threads))


@torch.library.custom_op("semanir_plugin::key_semantic_attention_native_backward", mutates_args=())
def backward_op(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
    bias_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and bias, the last one empty unless asked for."""
    q, k, v, grad = _rows(q), _rows(k), _rows(v), _rows(grad)
    dq, dk, dv = (q.new_empty(q.shape) for _ in range(3))
    call = _Call(q, k, v, mask, bias, scale)
    b, heads = q.shape[:2]
    splits = max(1, min(b, _parts_per_head(heads)))
    parts = q.new_zeros(0)
    if bias is not None and bias_gradient:
        splits = min(splits, max(1, LARGEST_BIAS_PARTS // max(bias.numel(), 1)))
        parts = q.new_zeros(splits, *bias.shape)
    call.run("attention_backward", splits=splits, grad=grad, out=out, lse=lse, dq=dq, dk=dk, dv=dv, dbias=parts)
    if not len(parts):
        return dq, dk, dv, parts
    dbias = parts.sum(0) if splits > 1 else parts[0].clone()
    return dq, dk, dv, dbias if call.side else _transposed(dbias)


@backward_op.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
    bias_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dbias = q.new_empty(0) if bias is None or not bias_gradient else q.new_empty(bias.shape)
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape), dbias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    q, k, v, mask, bias, out, lse = ctx.saved_tensors
    wanted = bias is not None and ctx.needs_input_grad[4]
    dq, dk, dv, dbias = backward_op(grad, q, k, v, mask, bias, ctx.scale, out, lse, wanted)
    return dq, dk, dv, None, dbias if wanted else None, None


attend_op.register_autograd(_backward, setup_context=_setup_context)


def _transposed(bias: Tensor) -> Tensor:
    """Return (H, N, N) with the last two axes exchanged, copied by blocks: several times quicker than `contiguous`."""
    bias = bias.contiguous()
    result = torch.empty_like(bias)
    pointers = [ctypes.c_void_p(each.data_ptr()) for each in (bias, result)]
    if native_support.load(SOURCE).transpose(*bias.shape[:2], *pointers, torch.get_num_threads()):
        raise MemoryError("the native attention kernel got no memory to work in")
    return result


class _Arguments(ctypes.Structure):
    """`Attention` of `native.c`."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("batch", "heads", "tokens", "width", "side")),
        ("scale", ctypes.c_float),
        *((f"{name}_stride", ctypes.c_ssize_t * 3) for name in STRIDED),
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "bias", "grad", "mask")),
        *((name, ctypes.c_void_p) for name in ("out", "lse", "dq", "dk", "dv", "dbias")),
        ("splits", ctypes.c_int),
    )


class _Call:
    """The inputs of the kernels, as these read them."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, scale: float) -> None:
        b, h, n, d = q.shape
        self.side = 0
        if bias is not None and is_table(bias, n):
            self.side = (bias.shape[1] + 1) // 2
        elif bias is not None:
            bias = _transposed(bias)
        self.tensors = {"q": q, "k": k, "v": v, "mask": mask.contiguous()}
        if bias is not None:
            self.tensors["bias"] = bias.contiguous()
        self.sizes = {"batch": b, "heads": h, "tokens": n, "width": d, "side": self.side, "scale": scale}

    def run(self, function: str, *, splits: int, **more: Tensor) -> None:
        """Run a function of the library on this call's tensors and `more`, which it writes where it must."""
        tensors = {**self.tensors, **more}
        arguments = _Arguments(**self.sizes, splits=splits)
        for name, tensor in tensors.items():
            setattr(arguments, name, tensor.data_ptr() or None)
            if name in STRIDED:
                setattr(arguments, f"{name}_stride", (ctypes.c_ssize_t * 3)(*tensor.stride()[:3]))
        if getattr(native_support.load(SOURCE), function)(ctypes.byref(arguments), torch.get_num_threads()):
            raise MemoryError("the native attention kernel got no memory to work in")
