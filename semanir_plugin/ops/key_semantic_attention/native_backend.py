"""Key-semantic attention for CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.common.eager import run_op
from semanir_plugin.ops.common.layout import empty_heads
from semanir_plugin.ops.common.position_table import dense_bias, is_table, table_side
from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["BF16_SOURCE", "SOURCE", "KeyLists", "attend", "key_lists_of"]

SOURCE = Path(__file__).with_name("native.c")
BF16_SOURCE = Path(__file__).with_name("native_bf16.c")
# Parts of the batch whose bias gradients are summed apart, so that threads can fill them side by side. No more than
# these, and whatever the number of threads: sums are the same for any number of them.
BIAS_PARTS = 16
# All parts of a dense bias gradient together, in elements: 256 MiB.
LARGEST_BIAS_PARTS = 1 << 26
# What the kernels read and write by strides.
STRIDED = ("q", "k", "v", "grad", "out")


class KeyLists(NamedTuple):
    """For each group of neighbouring queries the keys that any of them chose; G groups of up to 32 queries.

    Attributes:
        counts: (B, G) int32, how many keys each list has.
        keys: (B, G, L) int32, which; what lies behind `counts` is padding.
        bits: (B, G, L) int32, which queries of the group chose each key, a bit each.
    """

    counts: Tensor
    keys: Tensor
    bits: Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, Dv); arguments as in `key_semantic_attention`, the bias also as a table.

    Raises:
        ValueError: The kernel cannot run here, or not on such tensors.
    """
    if reason := native_support.why_not(SOURCE, q.device, q.dtype):
        raise ValueError(f"the native backend cannot be used: {reason}")
    bias = None if bias is None else _readable(bias.float(), q.shape[2])
    dtype = _computed_in(q, k, v)
    out, *_ = run_op(attend_op, *(_rows(each.to(dtype)) for each in (q, k, v)), *key_lists_of(semantics), bias, scale)
    result: Tensor = out.to(v.dtype)
    return result


def _computed_in(q: Tensor, k: Tensor, v: Tensor) -> torch.dtype:
    """Return bfloat16 where all are, in whole pairs, and the processor multiplies these; else float32."""
    in_pairs = all(each.dtype == torch.bfloat16 and each.shape[-1] % 2 == 0 for each in (q, k, v))
    return torch.bfloat16 if in_pairs and _reads_the_same_lists() else torch.float32


@native_support.constant
def _reads_the_same_lists() -> bool:
    """Return whether there are kernels of bfloat16, of as many lanes as those that make the lists."""
    if not native_support.multiplies_bf16(BF16_SOURCE):
        return False
    kinds = (native_support.load(SOURCE), native_support.load(BF16_SOURCE))
    return len({(each.lane_count(), each.group_size(), each.list_step()) for each in kinds}) == 1


def key_lists_of(semantics: KeySemantics) -> KeyLists:
    """Return the lists of a dictionary, made once for all heads and layers that share it."""
    result: KeyLists = semantics.shared("native_key_lists", lambda: KeyLists(*run_op(list_keys, semantics.mask())))
    return result


def _readable(bias: Tensor, tokens: int) -> Tensor:
    return bias if _is_read_as_table(bias, tokens) else dense_bias(bias, tokens)


def _is_read_as_table(bias: Tensor, tokens: int) -> bool:
    # The bias of a window of one token is both a table and dense.
    # Sizes are compared here, not in C: torch.compile may have symbols for them.
    return is_table(bias, tokens) and table_side(bias) % _ask("side_step") == 0


@native_support.constant
def _ask(function: str) -> int:
    """Return a constant of the kernels' layout from the C function of that name."""
    result: int = getattr(native_support.load(SOURCE), function)()
    return result


def _up_to(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op("semanir_plugin::key_semantic_lists_native", mutates_args=())
def list_keys(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fields of `KeyLists` for a (B, N, N) bool mask."""
    mask = mask.contiguous()
    lists: tuple[Tensor, Tensor, Tensor] = _empty_lists(mask)
    native_support.run(SOURCE, "list_keys", mask, *mask.shape[:2], *lists)
    return lists


@list_keys.register_fake
def _empty_lists(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    b, n, _ = mask.shape
    groups, length = -(-n // _ask("group_size")), _up_to(n, _ask("list_step"))
    counts, keys, bits = (
        torch.empty(shape, dtype=torch.int32, device=mask.device)
        for shape in ((b, groups), (b, groups, length), (b, groups, length))
    )
    return counts, keys, bits


@torch.library.custom_op("semanir_plugin::key_semantic_attention_native", mutates_args=())
def attend_op(
    q: Tensor, k: Tensor, v: Tensor, counts: Tensor, keys: Tensor, bits: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, H, N, Dv), the logarithm to base 2 of each query's sum of exponentials, (B, H, N), and `unrounded`.

    The latter is the result with all its digits where it is bfloat16, for the backward; else it is empty.
    """
    q, k, v = _rows(q), _rows(k), _rows(v)
    out, lse, unrounded = _empty_output(q, k, v, counts, keys, bits, bias, scale)
    tasks = max(1, q.shape[0] * q.shape[1])
    splits = -(-4 * torch.get_num_threads() // tasks)  # parts of a window, for threads that have no head of their own
    run = _Kernel(q, k, v, KeyLists(counts, keys, bits), bias, scale)
    if out.dtype == torch.float32:
        run("attention_forward", splits=splits, out=out, lse=lse)
    else:
        run("attention_forward", splits=splits, out=unrounded, lse=lse)
        out.copy_(unrounded)
    return out, lse, unrounded


@attend_op.register_fake
def _empty_output(
    q: Tensor, k: Tensor, v: Tensor, counts: Tensor, keys: Tensor, bits: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    out, lse = empty_heads(v), q.new_empty(q.shape[:3], dtype=torch.float32)
    unrounded = lse.new_empty(0) if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
    return out, lse, unrounded


@torch.library.custom_op("semanir_plugin::key_semantic_attention_native_backward", mutates_args=())
def backward_op(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    counts: Tensor,
    keys: Tensor,
    bits: Tensor,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
    bias_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and bias, the last one empty unless asked for."""
    q, k, v, grad = _rows(q), _rows(k), _rows(v), _rows(grad)
    dq, dbias = q.new_empty(q.shape, dtype=torch.float32), _empty_bias_gradient(q, bias, bias_gradient)
    dk, dv = _empty_sums(k), _empty_sums(v)
    run = _Kernel(q, k, v, KeyLists(counts, keys, bits), bias, scale)
    splits = max(1, min(len(q), BIAS_PARTS, LARGEST_BIAS_PARTS // max(run.bias_elements, 1)))
    parts = dq.new_zeros(splits if len(dbias) else 0, run.bias_elements)
    run("attention_backward", splits=splits, grad=grad, out=out, lse=lse, dq=dq, dk=dk, dv=dv, dbias=parts)
    if len(dbias):
        run.finish_bias_gradient(parts.sum(0), dbias)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), dbias


@backward_op.register_fake
def _empty_gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    counts: Tensor,
    keys: Tensor,
    bits: Tensor,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
    bias_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dk, dv = (_empty_sums(each).to(each.dtype) for each in (k, v))
    return q.new_empty(q.shape), dk, dv, _empty_bias_gradient(q, bias, bias_gradient)


def _empty_sums(x: Tensor) -> Tensor:
    """Return an empty fp32 (B, H, N, D) of rows that are padded to whole vectors."""
    width = x.shape[3]
    rows = x.new_empty(*x.shape[:3], _up_to(width, _ask("lane_count")), dtype=torch.float32)
    return rows[..., :width]


def _empty_bias_gradient(q: Tensor, bias: Tensor | None, wanted: bool) -> Tensor:
    return q.new_empty(0 if bias is None or not wanted else bias.shape, dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.scale = inputs
    out, lse, unrounded = output
    ctx.save_for_backward(*tensors, out if out.dtype == torch.float32 else unrounded, lse)
    ctx.mark_non_differentiable(lse, unrounded)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    *inputs, out, lse = ctx.saved_tensors
    wanted = inputs[-1] is not None and ctx.needs_input_grad[6]
    dq, dk, dv, dbias = backward_op(grad, *inputs, ctx.scale, out, lse, wanted)
    return dq, dk, dv, None, None, None, dbias if wanted else None, None


attend_op.register_autograd(_backward, setup_context=_setup_context)


@native_support.mirrors(SOURCE, BF16_SOURCE)
class _Arguments(ctypes.Structure):
    """`Attention` of `heads.h`."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("batch", "heads", "tokens", "width", "value_width", "side")),
        ("scale", ctypes.c_float),
        *((f"{name}_stride", ctypes.c_ssize_t * 3) for name in STRIDED),
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "grad", "bias", "counts", "keys", "bits")),
        *((name, ctypes.c_void_p) for name in ("out", "lse", "dq", "dk", "dv", "dbias")),
        ("splits", ctypes.c_int),
    )


class _Kernel:
    """The kernels on given inputs."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, lists: KeyLists, bias: Tensor | None, scale: float) -> None:
        b, h, n, d = q.shape
        self.tensors = {"q": q, "k": k, "v": v, **lists._asdict()}
        self.heads, self.tokens, self.side, self.bias_elements = h, n, 0, 0
        if bias is not None:
            if _is_read_as_table(bias, n):
                self.side = table_side(bias)
            else:
                bias = self._keys_first(bias)
            self.tensors["bias"], self.bias_elements = bias.contiguous(), bias.numel()
        self.sizes = {"batch": b, "heads": h, "tokens": n, "width": d, "value_width": v.shape[3], "side": self.side}
        self.scale, self.source = scale, BF16_SOURCE if q.dtype == torch.bfloat16 else SOURCE

    def __call__(self, function: str, *, splits: int, **more: Tensor) -> None:
        """Run a function of the library on these inputs and `more`, which it writes where it must."""
        arguments = _Arguments(**self.sizes, scale=self.scale, splits=splits)
        for name, tensor in {**self.tensors, **more}.items():
            setattr(arguments, name, tensor.data_ptr() or None)
            if name in STRIDED:
                setattr(arguments, f"{name}_stride", (ctypes.c_ssize_t * 3)(*tensor.stride()[:3]))
        native_support.run(self.source, function, ctypes.byref(arguments))

    def finish_bias_gradient(self, summed: Tensor, dbias: Tensor) -> None:
        """Write the gradient of the bias, as it was given, from one as the kernels have it."""
        if self.side:
            dbias.copy_(summed.view_as(dbias))
        else:
            _transpose(summed.view(self.heads, self.tokens, -1), dbias)

    def _keys_first(self, bias: Tensor) -> Tensor:
        to = bias.new_empty(self.heads, self.tokens, _up_to(self.tokens, _ask("group_size")))
        _transpose(bias.contiguous(), to)
        return to


def _transpose(matrices: Tensor, to: Tensor) -> None:
    """Fill `to`, (H, N, M or more), with the transposes of (H, M, N or more): far quicker than `contiguous`."""
    sizes = (len(to), matrices.shape[1], to.shape[1], matrices.shape[2], to.shape[2])
    native_support.run(SOURCE, "transpose_matrices", *sizes, matrices, to)
