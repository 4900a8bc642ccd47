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

from semanir_plugin.ops.common.dispatch import pick_backend
from semanir_plugin.ops.common.eager import are_plain
from semanir_plugin.ops.common.native_support import constant
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
        (..., O), in the dtype of x; under autocast, by "torch", in that of autocast.

    Raises:
        ValueError: `backend` is unknown, or cannot run here or on such tensors.
    """
    given = (x, weight, bias)
    backend = pick_backend(backend, BACKENDS, lambda: choose_backend(*given), lambda name: _why_not(name, *given))
    if backend == "onednn":
        return onednn.linear(x, weight, bias)
    return naive.linear(x, weight, bias) if backend == "naive" else F.linear(x, weight, bias)


def choose_backend(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[str, str]:
    """Return which backend `linear` takes for these arguments, and why."""
    if only_standard_operators():
        return "torch", PORTABLE_REASON
    if reason := _why_not_mkl(x):
        return "torch", reason
    if not _is_amd():  # before all that takes longer: every linear layer asks
        return "torch", "MKL, which PyTorch takes for fp32, is as quick on processors that are not AMD's"
    if reason := _why_not_onednn(x, weight, bias):
        return "torch", reason
    return "onednn", "MKL, which PyTorch takes for fp32, does without AVX-512 on AMD's processors"


def _why_not(backend: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> str | None:
    return _why_not_mkl(x) or _why_not_onednn(x, weight, bias) if backend == "onednn" else None


def _why_not_mkl(x: Tensor) -> str | None:
    """Return why PyTorch does not give MKL what oneDNN could take instead, None if it does."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return "PyTorch gives only fp32 products on CPUs to MKL"
    return None


def _why_not_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> str | None:
    given = (x, weight) if bias is None else (x, weight, bias)
    if not are_plain(given):
        return "compilers, exporters, torch.func and tensors of other classes know F.linear and choose for themselves"
    if weight.dtype != x.dtype or (bias is not None and bias.dtype != x.dtype):
        return "oneDNN takes a weight and a bias of fp32 beside features of fp32"
    # Of what does not fit together, PyTorch has the clearer errors.
    if not x.numel() or not len(weight) or weight.shape[1:] != x.shape[-1:]:
        return f"oneDNN takes no empty tensors, and weights as wide as the features, not {tuple(weight.shape)}"
    if bias is not None and (bias.shape != weight.shape[:1] or not bias.is_contiguous()):
        return "oneDNN takes a bias of one number for each output, one behind the other"  # and would read so any
    return None if onednn.is_there() else "this PyTorch was built without oneDNN"


@constant
def _is_amd() -> bool:
    return _asked_of_the_system()


@functools.cache
def _asked_of_the_system() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "AuthenticAMD" in platform.processor()  # as Windows says it
