"""The activation of the feed-forward networks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.common.dispatch import pick_backend
from semanir_plugin.ops.common.portable import PORTABLE_REASON, only_standard_operators
from semanir_plugin.ops.gelu import naive, native_backend

__all__ = ["choose_backend", "gelu"]

BACKENDS = ("naive", "torch", "native")


def gelu(x: Tensor, *, backend: str = "auto") -> Tensor:
    """Return x times the share of the normal distribution below x (Hendrycks and Gimpel, arXiv 1606.08415).

    Args:
        x: Of any shape.
        backend: "naive" is the definition, "torch" PyTorch's own function; "native", for contiguous tensors on CPUs, is
            nearer to it than 1e-6 and than 2e-7 of |x|, and needs a C compiler. "auto" takes what `choose_backend`
            names.

    Returns:
        Of the shape and dtype of x. What is below -5.5 gives 0 by "native", as it does to within 1e-7.

    Raises:
        ValueError: `backend` is unknown, or cannot run here or on such tensors.
    """
    backend = pick_backend(backend, BACKENDS, lambda: choose_backend(x), lambda name: _why_not(name, x))
    if backend == "native":
        return native_backend.gelu(x)
    return naive.gelu(x) if backend == "naive" else F.gelu(x)


def choose_backend(x: Tensor) -> tuple[str, str]:
    """Return which backend `gelu` takes for a tensor like this, and why."""
    if only_standard_operators():
        return "torch", PORTABLE_REASON
    if reason := _why_not("native", x):
        return "torch", reason
    return "native", "a polynomial takes half the time of an error function"


def _why_not(backend: str, x: Tensor) -> str | None:
    if backend != "native":
        return None
    if reason := native_support.why_not_directly([x], native_backend.SOURCE, native_backend.BF16_SOURCE):
        return reason
    return None if x.is_contiguous() else "native kernels read what is contiguous"
