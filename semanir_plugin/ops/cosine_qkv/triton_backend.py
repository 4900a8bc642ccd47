"""Heads of scaled cosine attention on Triton kernels: their configurations, and how they are launched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor

from semanir_plugin.ops.common.triton_support import TYPES, padded_width
from semanir_plugin.ops.cosine_qkv.triton_kernels import cosine_qkv_bwd_kernel, cosine_qkv_fwd_kernel

__all__ = ["compilations", "join", "split"]

# Numbers of one tensor that a program has at a time; no choice has been measured.
TILE = 1024
WARPS = 4
SUMS = ("p_scale", "p_dscale")


def compilations() -> Iterator[tuple[Any, dict[str, str], dict[str, Any], int, int]]:
    """Yield all that can be launched: kernel, types of its arguments, constants, num_warps, num_stages."""
    for kind in (f"*{name}" for name in TYPES.values()):
        for d in (16, 32, 64, 128):
            for kernel in (cosine_qkv_fwd_kernel, cosine_qkv_bwd_kernel):
                constants = _constants(d)
                names = [name for name in kernel.arg_names if name not in constants]
                signature = {
                    name: "*fp32" if name in SUMS else kind if name.startswith("p_") else "i32" for name in names
                }
                yield kernel, signature, constants, WARPS, 1


def _constants(d: int) -> dict[str, int]:
    width = padded_width(d)
    return {"BM": TILE // width, "BD": width}


def split(qkv: Tensor, scale: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Fill q, k and v, (B, H, N, D) of aligned rows; qkv contiguous, scale fp32."""
    _launch(cosine_qkv_fwd_kernel, {"p_qkv": qkv, "p_scale": scale, "p_q": q, "p_k": k, "p_v": v}, qkv, scale)


def join(qkv: Tensor, scale: Tensor, dq: Tensor, dk: Tensor, dv: Tensor, dqkv: Tensor) -> Tensor:
    """Fill the gradient of qkv; return that of scale. Rows of dq, dk and dv are whole."""
    blocks = triton.cdiv(qkv.shape[0] * qkv.shape[1], _constants(dq.shape[-1])["BM"])
    parts = qkv.new_empty(blocks, len(scale), dtype=torch.float32)
    values: dict[str, Any] = {"p_qkv": qkv, "p_scale": scale, "p_dqkv": dqkv, "p_dscale": parts}
    for name, gradient in {"q": dq, "k": dk, "v": dv}.items():
        strides = {f"s_{name}{axis}": gradient.stride(i) for i, axis in enumerate("bhn")}
        values |= {f"p_d{name}": gradient, **strides}
    _launch(cosine_qkv_bwd_kernel, values, qkv, scale)
    return parts.sum(0)


def _launch(kernel: Any, values: dict[str, Any], qkv: Tensor, scale: Tensor) -> None:
    b, n, width = qkv.shape
    if not qkv.numel():
        return
    heads = len(scale)
    d = width // (3 * heads)
    constants = _constants(d)
    grid = (triton.cdiv(b * n, constants["BM"]), heads)
    with torch.cuda.device_of(qkv):
        kernel[grid](**values, TOKENS=b * n, N=n, H=heads, D=d, **constants, num_warps=WARPS, num_stages=1)
