"""Whether Triton kernels can run here, and why not."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

__all__ = ["interpreted", "why_not", "why_not_heads"]

# What the kernels of attention take; wider heads do not fit in registers.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_WIDTH = 128


def interpreted() -> bool:
    """Tell whether kernels run in Triton's interpreter, on CPU tensors: TRITON_INTERPRET=1 before they are imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def why_not(device: torch.device) -> str | None:
    """Return why no Triton kernel can run on `device`, None if one can."""
    if find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cuda" or (device.type == "cpu" and interpreted()):
        return None
    return f"Triton has no kernels for {device.type} tensors"


def why_not_heads(q: Tensor) -> str | None:
    """Return why no Triton kernel of attention can run on queries (B, H, N, D) like these, None if one can."""
    if q.dtype not in DTYPES:
        return f"the kernels take {', '.join(map(str, DTYPES))}, not {q.dtype}"
    if q.shape[-1] > LARGEST_WIDTH:
        return f"the kernels take heads up to {LARGEST_WIDTH} wide, not {q.shape[-1]}"
    return why_not(q.device)
