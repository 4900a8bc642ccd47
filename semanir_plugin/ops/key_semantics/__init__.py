"""The key-semantic dictionary: for each token of a window, its k most similar tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support, triton_support
from semanir_plugin.ops.common.checks import check_regions, check_sizes
from semanir_plugin.ops.common.dispatch import pick_backend
from semanir_plugin.ops.common.eager import run_op
from semanir_plugin.ops.common.portable import PORTABLE_REASON, only_standard_operators
from semanir_plugin.ops.key_semantics import naive, native_backend, portable, threshold
from semanir_plugin.ops.key_semantics.dictionary import KeySemantics

__all__ = ["KeySemantics", "Similarity", "build_key_semantics", "choose_backend"]

Similarity = Literal["dot", "cosine"]

# Those made of PyTorch's operators.
OPERATORS: dict[str, Callable[[Tensor, int, Tensor | None, bool], Tensor]] = {
    "naive": naive.select_keys,
    "threshold": threshold.select_keys,
    "portable": portable.select_keys,
}
BACKENDS = (*OPERATORS, "native", "triton")
# What the Triton kernel takes: the tokens of a window, and the dtypes of features.
KERNEL_TOKENS = 4096
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@torch.no_grad()
def build_key_semantics(
    x: Tensor,
    k: int,
    *,
    regions: Tensor | None = None,
    similarity: Similarity = "dot",
    backend: str = "auto",
) -> KeySemantics:
    """Select for every token the k tokens of its window that are most similar to it.

    Token i keeps the k tokens j with the largest x_i . x_j, itself among the candidates; of equal ones those with the
    lower index. NaN similarities rank below all others. No gradient flows through the selection.
    SemanIR (NeurIPS 2024), section 3.2.

    Args:
        x: (B, N, C) features of B windows of N tokens, any floating dtype; compared in fp32 at least. Of all sizes
            only B may be 0.
        k: Keys per token. More than N is clipped to N: a window has no more tokens to offer.
        regions: (R, N) integer labels with B a multiple of R, repeated along B. A token may only keep tokens that carry
            its own label (shifted windows), so it has min(k, region size) keys. None: one region.
        similarity: "dot", as published, or "cosine".
        backend: "naive", "threshold" (torch only), "portable" (what exporters know), "native" (C, for CPUs), "triton"
            (for CUDA) or "auto": see `choose_backend`.

    Returns:
        The dictionary, of shape (B, N, k).

    Raises:
        ValueError: A shape, a dtype, `k`, `similarity` or `backend` is not as above, or no kernel can run here.
    """
    _check(x, k, regions, similarity)
    backend = pick_backend(backend, BACKENDS, lambda: choose_backend(x, k), lambda name: _why_not(name, x))
    x, k, cosine = x.detach(), min(k, x.shape[1]), similarity == "cosine"
    if backend == "triton":
        return _build_in_kernel(x, k, regions, cosine)
    if backend == "native":
        return KeySemantics(k, mask=run_op(native_backend.select_keys, x, k, regions, cosine))
    return KeySemantics(k, mask=OPERATORS[backend](x, k, regions, cosine))


def choose_backend(x: Tensor, k: int) -> tuple[str, str]:
    """Return the backend that "auto" stands for, and why.

    Args:
        x: (B, N, C) features.
        k: Keys per token.

    Returns:
        "triton" where a GPU runs the kernel and the kernel takes these features, "native" where a CPU does, else
        "threshold"; within `portable_ops` "portable"; and the reason in words. Triton's interpreter is never chosen: it
        is there to test kernels.
    """
    if only_standard_operators():
        return "portable", PORTABLE_REASON
    if k >= x.shape[1]:
        return "threshold", f"k = {k} keeps all {x.shape[1]} tokens: there is nothing to search"
    if x.device.type == "cpu":
        if reason := _why_not("native", x):
            return "threshold", reason
        return "native", "x is on a CPU, where the compiled kernel is faster than torch's topk"
    if x.device.type != "cuda":
        return "threshold", f"x is on {x.device.type}, kernels run on cuda and on CPUs"
    if reason := _why_not("triton", x):
        return "threshold", reason
    return "triton", "a GPU is there and the kernel takes these features"


def _why_not(backend: str, x: Tensor) -> str | None:
    if backend == "native":
        return native_support.why_not(native_backend.SOURCE, x.device, x.dtype)
    return _why_no_kernel(x) if backend == "triton" else None


def _why_no_kernel(x: Tensor) -> str | None:
    if reason := triton_support.why_not(x.device):
        return reason
    if x.dtype not in KERNEL_DTYPES:
        return f"the kernel takes no {x.dtype}"
    if x.shape[1] > KERNEL_TOKENS:
        return f"the kernel takes windows of up to {KERNEL_TOKENS} tokens, got {x.shape[1]}"
    return None


def _build_in_kernel(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> KeySemantics:
    from semanir_plugin.ops.key_semantics.triton_backend import select_keys_packed

    packed, query_order = select_keys_packed(x, k, regions, cosine)
    return KeySemantics(k, packed=packed, query_order=query_order)


def _check(x: Tensor, k: int, regions: Tensor | None, similarity: str) -> None:
    if x.ndim != 3 or not x.is_floating_point():
        raise ValueError(f"x must be a floating tensor of shape (B, N, C), got {tuple(x.shape)} of {x.dtype}")
    check_sizes("x", x, "N and C")
    if isinstance(k, bool) or not isinstance(k, (int, torch.SymInt)) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
    if similarity not in get_args(Similarity):
        raise ValueError(f"similarity must be one of {get_args(Similarity)}, got {similarity!r}")
    if regions is not None:
        check_regions(regions, x.shape[0], x.shape[1], x.device)
