"""Layer normalisation of tokens, and the residual that it is added to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.common.dispatch import pick_backend
from semanir_plugin.ops.common.eager import are_plain
from semanir_plugin.ops.common.portable import PORTABLE_REASON, only_standard_operators
from semanir_plugin.ops.layer_norm import naive, native_backend

__all__ = ["choose_backend", "layer_norm"]

BACKENDS = ("naive", "torch", "native")


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Normalise each token over its channels, and add it to a residual (as residual post-norm does: Swin V2, 3.2).

    Args:
        x: (..., C) tokens.
        weight: (C,).
        bias: (C,).
        eps: Added to the variance of a token's channels.
        residual: (..., C), or None: nothing is added.
        backend: "naive" is the definition, "torch" PyTorch's own function and a sum; "native", for CPUs, reads and
            writes everything once and needs a C compiler. "auto" takes what `choose_backend` names.

    Returns:
        (..., C), in the dtype of x, or what PyTorch adds x and the residual in where that has another. In bfloat16
        "naive" and "native" round once, "torch" the result of each step. Under autocast as PyTorch's own function.

    Raises:
        ValueError: `backend` is unknown, or cannot run here or on such tensors.
    """
    given = (x, weight, bias, residual)
    backend = pick_backend(backend, BACKENDS, lambda: choose_backend(*given), lambda name: _why_not(name, *given))
    if backend == "native":
        return native_backend.normalise(x, weight, bias, eps, residual)
    if backend == "naive":
        return naive.layer_norm(x, weight, bias, eps, residual)
    out = F.layer_norm(x, weight.shape, weight, bias, eps)
    return out if residual is None else residual + out


def choose_backend(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None = None) -> tuple[str, str]:
    """Return which backend `layer_norm` takes for these arguments, and why."""
    if only_standard_operators():
        return "torch", PORTABLE_REASON
    if reason := _why_not("native", x, weight, bias, residual):
        return "torch", reason
    return "native", "every number is read and written once"


def _why_not(backend: str, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None) -> str | None:
    if backend != "native":
        return None
    if reason := native_support.why_not_directly([x], native_backend.SOURCE, native_backend.BF16_SOURCE):
        return reason
    if not (x.ndim and x.shape[-1] and weight.shape == bias.shape == x.shape[-1:]):
        return "native kernels take a weight and a bias of one number for each channel, of which there is at least one"
    others = [each for each in (weight, bias, residual) if each is not None]
    if not are_plain(others):
        return "weight, bias and residual must be ordinary tensors beside x"
    if weight.dtype != torch.float32 or bias.dtype != torch.float32:
        return f"native kernels take a weight and a bias of fp32, not of {weight.dtype} and {bias.dtype}"
    if residual is not None and (residual.dtype != x.dtype or residual.shape != x.shape):
        return "native kernels add what is of the same dtype and shape"
    return None
