"""Adaptive sparse self-attention: a softmax and a squared-ReLU branch on the same scores, weighed together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from semanir_plugin.ops.adaptive_sparse_attention import blockwise, naive, portable
from semanir_plugin.ops.common import triton_support
from semanir_plugin.ops.common.checks import check_heads, check_one_device, check_regions
from semanir_plugin.ops.common.dispatch import pick_backend
from semanir_plugin.ops.common.eager import TRANSFORM_REASON, differentiated_by_transform
from semanir_plugin.ops.common.portable import why_standard_operators
from semanir_plugin.ops.common.position_table import check_bias, dense_bias

__all__ = ["adaptive_sparse_attention", "choose_backend"]

BACKENDS = ("naive", "torch", "portable", "triton")


def adaptive_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor,
    *,
    bias: Tensor | None = None,
    regions: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return (weights[0] softmax(S) + weights[1] relu(S)^2) v with S = scale q k^T + bias, less 100 across regions.

    The softmax keeps what the squared ReLU would lose, the squared ReLU drops what does not fit. AST (CVPR 2024),
    section 3.2.

    Args:
        q: (B, H, N, D) queries of B windows, with any strides. Of all sizes only B may be 0.
        k: (B, H, N, D) keys.
        v: (B, H, N, D) values.
        weights: (2,) the shares of both branches, as they are: the caller normalises them.
        bias: Added to the scaled scores of every window: dense, (H, N, N), or a relative-position table,
            (H, 2w - 1, 2w - 1) for windows of N = w * w tokens row by row, in which query (y, x) and key (y', x') have
            the entry [h, y - y' + w - 1, x - x' + w - 1].
        regions: (R, N) integer labels with B a multiple of R, repeated along B. Scores between tokens with different
            labels (shifted windows) are lowered by 100, as the authors do. None: one region.
        scale: Factor on q . k; None: D ** -0.5.
        backend: "naive", "torch" (window by window, for CPUs), "portable" (what exporters know), "triton", or "auto":
            see `choose_backend`.

    Returns:
        (B, H, N, D) in the dtype of v. Gradients flow to q, k, v, weights and bias.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit together, or `backend` is unknown or cannot run here.
    """
    _check(q, k, v, weights, bias, regions)
    backend = pick_backend(backend, BACKENDS, lambda: choose_backend(q), lambda name: _why_not(name, q))
    if bias is not None:
        # First the digits: many entries of a dense gradient add up to one of the table's.
        bias = dense_bias(bias.to(torch.promote_types(bias.dtype, torch.float32)), q.shape[2], q.shape[0])
    return _load(backend)(q, k, v, weights, bias, regions, q.shape[-1] ** -0.5 if scale is None else scale)


def choose_backend(q: Tensor) -> tuple[str, str]:
    """Return the backend that "auto" takes for `q`, and why it takes that one."""
    if reason := why_standard_operators():
        return "portable", reason
    if q.device.type == "cpu":
        return "torch", "q is on a CPU"
    if reason := triton_support.why_not_heads(q):
        return "torch", reason
    return "triton", f"q is on {q.device}, {q.dtype}, D = {q.shape[-1]}"


def _why_not(backend: str, q: Tensor) -> str | None:
    if backend in ("torch", "triton") and differentiated_by_transform():
        return TRANSFORM_REASON
    return triton_support.why_not_heads(q) if backend == "triton" else None


def _load(backend: str) -> Callable[..., Tensor]:
    if backend == "triton":
        from semanir_plugin.ops.adaptive_sparse_attention import triton_backend

        return triton_backend.attend
    return {"naive": naive.attend, "torch": blockwise.attend, "portable": portable.attend}[backend]


def _check(q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None) -> None:
    check_heads(q, k, v, any_value_width=False)
    if weights.shape != (2,) or not weights.is_floating_point():
        raise ValueError(f"weights must be a floating tensor of shape (2,), got {tuple(weights.shape)}")
    if bias is not None:
        check_bias(bias, q.shape[1], q.shape[2])
    check_one_device(*(t.device for t in (q, k, v, weights, bias) if t is not None))
    if regions is not None:
        check_regions(regions, q.shape[0], q.shape[2], q.device)
