"""Check whether Triton kernels can run here; sizes, alignment and precision that the kernels of all ops share."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.common.dispatch import warn_of_slow_path
from semanir_plugin.ops.common.native_support import constant

__all__ = [
    "TYPES",
    "aligned_rows",
    "empty_aligned",
    "has_ptx",
    "interpreted",
    "padded_width",
    "precision",
    "why_not",
    "why_not_heads",
]

# What the kernels of attention take, and how Triton names it; wider heads do not fit in registers.
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
LARGEST_WIDTH = 128
# Aligned rows begin at multiples of so many elements, and are at least so wide.
ALIGNED = 16


def interpreted() -> bool:
    """Tell whether kernels run in Triton's interpreter, on CPU tensors: TRITON_INTERPRET=1 before they are imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def has_ptx() -> bool:
    """Tell whether kernels are compiled by way of PTX, for NVIDIA's GPUs."""
    return not interpreted() and torch.version.hip is None


def why_not(device: torch.device) -> str | None:
    """Return why no Triton kernel can run on `device`, None if one can."""
    if reason := _missing(device.type):
        return reason
    if device.type == "cuda" or (device.type == "cpu" and interpreted()):
        return None
    return f"Triton has no kernels for {device.type} tensors"


@constant
def _missing(device_type: str) -> str | None:
    if find_spec("triton") is not None:
        return None
    reason = "triton is not installed"
    if device_type == "cuda":
        package = "triton-windows" if sys.platform == "win32" else "triton"
        warn_of_slow_path(f"{reason}; pip install {package}")
    return reason


def why_not_heads(q: Tensor) -> str | None:
    """Return why no Triton kernel of attention can run on queries (B, H, N, D) like these, None if one can."""
    if q.dtype not in TYPES:
        return f"the kernels take {', '.join(map(str, TYPES))}, not {q.dtype}"
    if q.shape[-1] > LARGEST_WIDTH:
        return f"the kernels take heads up to {LARGEST_WIDTH} wide, not {q.shape[-1]}"
    return why_not(q.device)


def precision() -> str:
    """Return the `input_precision` of products of fp32: TF32 where PyTorch's own products are allowed it."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def padded_width(d: int) -> int:
    """Return the padded width at which kernels read rows of `d` numbers: a power of two, at least 16."""
    return max(ALIGNED, 1 << (d - 1).bit_length())


def empty_aligned(x: Tensor) -> Tensor:
    """Return an empty (B, H, N, D) like `x`, its rows aligned and `padded_width(D)` apart."""
    return x.new_empty(*x.shape[:3], padded_width(x.shape[3]))[..., : x.shape[3]]


def aligned_rows(x: Tensor) -> Tensor:
    """Return (B, H, N, D) rows of which `padded_width(D)` elements can be read, from multiples of 16: x or a copy.

    Padding of a copy is 0.
    """
    width = padded_width(x.shape[-1])
    end = x.storage_offset() + sum((size - 1) * step for size, step in zip(x.shape[:-1], x.stride(), strict=False))
    fits = (end + width) * x.itemsize <= x.untyped_storage().nbytes()
    aligned = x.data_ptr() % ALIGNED == 0 and all(step % ALIGNED == 0 for step in x.stride()[:-1])
    if x.stride(-1) == 1 and fits and aligned and x.shape[2] * x.stride(2) < 2**31:
        return x
    return F.pad(x, (0, width - x.shape[-1])).contiguous()[..., : x.shape[-1]]
