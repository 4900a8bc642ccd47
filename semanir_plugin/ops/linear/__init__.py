"""Linear layers on CPUs by the quicker of PyTorch's two matrix libraries.

PyTorch gives fp32 products to MKL, which runs its AVX2 code on AMD's processors whatever these can do. oneDNN, which is
in PyTorch too and has its half-precision products and convolutions, takes their AVX-512: 2.3 times as fast on a Zen 5.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.common.eager import are_plain, values_may_decide
from semanir_plugin.ops.common.portable import PORTABLE_REASON, only_standard_operators
from semanir_plugin.ops.linear import naive, onednn

__all__ = ["choose_backend", "linear"]

BACKENDS = ("naive", "torch", "onednn")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    """Return x @ weight.T + bias, as `torch.nn.functional.linear` does, to rounding.

    Args:
        x: (..., I) features.
        weight: (O, I).
        bias: (O,), or None.
        backend: "naive" is the definition, "torch" PyTorch's own function; "onednn" asks oneDNN for the products,
            forward and backward, but for the weight's gradient, which has a native kernel where there is a C compiler;
            "auto" takes what `choose_backend` names.

    Returns:
        (..., O).

    Raises:
        ValueError: `backend` is unknown, or cannot run here or on such tensors.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend must be one of {('auto', *BACKENDS)}, got {backend!r}")
    if backend == "auto":
        backend, _ = choose_backend(x)
    elif backend == "onednn" and (reason := _why_not(x)):
        raise ValueError(f"the onednn backend cannot be used: {reason}")
    if backend == "naive":
        return naive.linear(x, weight, bias)
    if backend == "torch" or not _onednn_takes(x, weight, bias):
        return F.linear(x, weight, bias)
    return onednn.linear(x, weight, bias)


def choose_backend(x: Tensor) -> tuple[str, str]:
    """Return which backend `linear` takes for features like this, and why."""
    if reason := _why_not(x):
        return "torch", reason
    if not _is_amd():
        return "torch", "MKL, which PyTorch takes for fp32, is as quick on processors that are not AMD's"
    return "onednn", "MKL, which PyTorch takes for fp32, does without AVX-512 on AMD's processors"


def _why_not(x: Tensor) -> str | None:
    if only_standard_operators():
        return PORTABLE_REASON
    if not values_may_decide([]):
        return "compilers, exporters and torch.func know F.linear and choose for themselves"
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return "PyTorch gives only fp32 products on CPUs to MKL"
    return None if onednn.is_there() else "this PyTorch was built without oneDNN"


def _onednn_takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether these fit together and hold anything: of what does not, PyTorch has the clearer errors."""
    if x.dtype != weight.dtype or not x.numel() or not len(weight) or weight.shape[1:] != x.shape[-1:]:
        return False
    if bias is None:
        return are_plain((x, weight))
    # oneDNN reads the numbers behind the first one, whatever the stride.
    fits = bias.shape == weight.shape[:1] and bias.dtype == x.dtype and bias.is_contiguous()
    return fits and are_plain((x, weight, bias))


@functools.cache
def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "AuthenticAMD" in platform.processor()  # as Windows says it
