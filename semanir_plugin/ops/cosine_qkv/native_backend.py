"""Heads of scaled cosine attention for CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support

__all__ = ["BF16_SOURCE", "SOURCE", "join", "split"]

SOURCE = Path(__file__).with_name("native.c")
BF16_SOURCE = Path(__file__).with_name("native_bf16.c")


def split(qkv: Tensor, scale: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Fill q, k and v, contiguous (B, H, N, D); qkv contiguous; scale fp32, the others too, or all bfloat16."""
    _run("split", qkv=qkv, scale=scale, q=q, k=k, v=v)


def join(qkv: Tensor, scale: Tensor, dq: Tensor, dk: Tensor, dv: Tensor, dqkv: Tensor) -> Tensor:
    """Fill the gradient of qkv; return that of scale. Rows of dq, dk and dv are whole."""
    parts = qkv.new_empty(native_support.load(_source(qkv)).task_count(*qkv.shape[:2]), len(scale), dtype=torch.float32)
    _run("join", qkv=qkv, scale=scale, dq=dq, dk=dk, dv=dv, dqkv=dqkv, dscale=parts)
    return parts.sum(0)


@native_support.mirrors(SOURCE, BF16_SOURCE)
class _Arguments(ctypes.Structure):
    """`Split` of `native.c`."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("batch", "heads", "tokens", "width")),
        *((f"{name}_stride", ctypes.c_ssize_t * 3) for name in ("dq", "dk", "dv")),
        *((name, ctypes.c_void_p) for name in ("qkv", "scale", "q", "k", "v", "dq", "dk", "dv", "dqkv", "dscale")),
    )


def _source(qkv: Tensor) -> Path:
    return BF16_SOURCE if qkv.dtype == torch.bfloat16 else SOURCE


def _run(function: str, **tensors: Tensor) -> None:
    """Run a function of the library on tensors, some of which it writes."""
    b, n, width = tensors["qkv"].shape
    heads = len(tensors["scale"])
    arguments = _Arguments(batch=b, heads=heads, tokens=n, width=width // (3 * heads))
    for name, tensor in tensors.items():
        setattr(arguments, name, tensor.data_ptr() or None)
        if name in ("dq", "dk", "dv"):
            setattr(arguments, f"{name}_stride", (ctypes.c_ssize_t * 3)(*tensor.stride()[:3]))
    native_support.run(_source(tensors["qkv"]), function, ctypes.byref(arguments))
