"""From a joint projection to the heads of scaled cosine attention."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support, triton_support
from semanir_plugin.ops.common.checks import check_one_device, check_sizes
from semanir_plugin.ops.common.dispatch import pick_backend
from semanir_plugin.ops.common.eager import TRANSFORM_REASON, differentiated_by_transform, run_op
from semanir_plugin.ops.common.portable import why_standard_operators
from semanir_plugin.ops.cosine_qkv import naive, native_backend, operators
from semanir_plugin.ops.cosine_qkv.fused import split_op

__all__ = ["choose_backend", "cosine_qkv"]

BACKENDS = ("naive", "torch", "native", "triton")


def cosine_qkv(qkv: Tensor, scale: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor, Tensor]:
    """Split a joint projection into heads, with queries of length `scale` and keys of length 1.

    Their products are the scores of scaled cosine attention (Swin V2, section 3.2). Lengths below 1e-12 count as 1e-12,
    as in `torch.nn.functional.normalize`.

    Args:
        qkv: (B, N, 3 C): queries, keys and values of N tokens, one after the other, each of H heads of D = C / H.
            Of all sizes only B may be 0.
        scale: (H,) the length of a head's queries.
        backend: "naive" is the definition, "torch" PyTorch's own operators. "native", for CPUs, and "triton", for CUDA,
            read and write everything once, in fp32 inside; the former needs a C compiler. "auto" takes what
            `choose_backend` names.

    Returns:
        q, k and v, each (B, H, N, D), in the dtype of `qkv`. Gradients flow to both arguments.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit together, or `backend` is unknown or cannot run here.
    """
    _check(qkv, scale)
    choose, why_not = (lambda: choose_backend(qkv, scale)), (lambda name: _why_not(name, qkv, scale))
    backend = pick_backend(backend, BACKENDS, choose, why_not)
    if backend == "naive":
        return naive.split(qkv, scale)
    if backend == "torch":
        return operators.split(qkv, scale)
    dtype = _read_by_native(qkv.dtype) if backend == "native" else qkv.dtype
    q, k, v = run_op(split_op, qkv.to(dtype), scale.float(), backend)
    return q.to(qkv.dtype), k.to(qkv.dtype), v.to(qkv.dtype)


def choose_backend(qkv: Tensor, scale: Tensor) -> tuple[str, str]:
    """Return which backend `cosine_qkv` takes for these arguments, and why."""
    if reason := why_standard_operators():
        return "torch", reason
    fast = "native" if qkv.device.type == "cpu" else "triton"
    if reason := _why_not(fast, qkv, scale):
        return "torch", reason
    return fast, "every number is read and written once"


def _read_by_native(dtype: torch.dtype) -> torch.dtype:
    known = dtype == torch.bfloat16 and native_support.multiplies_bf16(native_backend.BF16_SOURCE)
    return dtype if known else torch.float32


def _why_not(backend: str, qkv: Tensor, scale: Tensor) -> str | None:
    if backend in ("native", "triton") and differentiated_by_transform():
        return TRANSFORM_REASON
    if backend == "native":
        return native_support.why_not(native_backend.SOURCE, qkv.device, qkv.dtype)
    width = qkv.shape[2] // (3 * len(scale))
    return triton_support.why_not_heads(qkv[..., :width]) if backend == "triton" else None


def _check(qkv: Tensor, scale: Tensor) -> None:
    if scale.ndim != 1 or not len(scale) or not scale.is_floating_point():
        raise ValueError(f"scale must be floating and of shape (H,), got {scale.dtype} of {tuple(scale.shape)}")
    if qkv.ndim != 3 or qkv.shape[2] % (3 * len(scale)) or not qkv.is_floating_point():
        shape = tuple(qkv.shape)
        raise ValueError(f"qkv must be floating and (B, N, 3 C), C a multiple of H = {len(scale)}, got {shape}")
    check_sizes("qkv", qkv, "N and C")
    check_one_device(qkv.device, scale.device)
