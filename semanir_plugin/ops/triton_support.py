"""Whether Triton kernels can run here, and why not."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

__all__ = ["interpreted", "why_not"]


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
