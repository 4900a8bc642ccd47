"""Softmax attention of every query over the keys of its key-semantic dictionary."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support, triton_support
from semanir_plugin.ops.common.autocast import is_autocast, without_autocast
from semanir_plugin.ops.common.checks import check_heads, check_one_device
from semanir_plugin.ops.common.dispatch import pick_backend
from semanir_plugin.ops.common.eager import TRANSFORM_REASON, differentiated_by_transform
from semanir_plugin.ops.common.portable import only_standard_operators, why_standard_operators
from semanir_plugin.ops.common.position_table import check_bias, dense_bias
from semanir_plugin.ops.key_semantic_attention import (
    blockwise,
    flex,
    gather,
    mask,
    naive,
    native_backend,
    portable,
    sdpa,
)
from semanir_plugin.ops.key_semantic_attention.non_finite import attend_contained
from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["choose_backend", "key_semantic_attention"]


def _triton(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    # Imported when it is asked for: Triton takes a second to import, and is not on every machine.
    from semanir_plugin.ops.key_semantic_attention import triton_backend

    return triton_backend.attend(q, k, v, semantics, bias, scale)


BACKENDS = {
    "naive": naive.attend,
    "mask": mask.attend,
    "gather": gather.attend,
    "sdpa": sdpa.attend,
    "flex": flex.attend,
    "blockwise": blockwise.attend,
    "portable": portable.attend,
    "native": native_backend.attend,
    "triton": _triton,
}
# These read a relative-position table on the fly; the others get it as a dense bias.
TABLE_BACKENDS = {"flex", "native", "triton"}
# The kernels of these never combine a query with a key that it did not choose; PyTorch's operators do.
KERNEL_BACKENDS = {"native", "triton"}
# These are made of registered ops.
REGISTERED_BACKENDS = {"blockwise", "native", "triton"}
# Scores of all windows and heads up to which SDPA is the quickest on a CPU with a bias, in inference and in training.
LARGEST_SUM = 12 << 20
LARGEST_TRAINED_SUM = 2 << 20


def key_semantic_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    semantics: KeySemantics,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attend from each query to the keys its window's dictionary holds for it, and to no others.

    Equal to dense attention with -inf on all other keys. Under autocast, q, k and v are cast to its dtype, but
    not float64.
    SemanIR (NeurIPS 2024), section 3.3.

    A NaN in a query stays in its row. NaN and infinity in keys and values reach the queries that chose them, whose
    whole rows may become NaN, and nobody else; what nobody chose reaches nobody.

    Args:
        q: (B, H, N, D) queries of B windows. Of all sizes only B may be 0.
        k: (B, H, N, D) keys.
        v: (B, H, N, E) values.
        semantics: Dictionary of the same B windows of N tokens, shared by all heads.
        bias: Added to the scaled scores of every window: dense, (H, N, N), or a relative-position table,
            (H, 2w - 1, 2w - 1) for windows of N = w * w tokens row by row, in which query (y, x) and key (y', x') have
            the entry [h, y - y' + w - 1, x - x' + w - 1].
        scale: Factor on q . k; None: D ** -0.5.
        backend: "auto" takes what `choose_backend` names. "naive" is the definition; "mask" and "gather" are the
            paper's Torch-Mask and Torch-Gather; "sdpa" and "flex" go through PyTorch's fused and flexible attention;
            "blockwise" and "native" are for CPUs, the latter needs a C compiler; "portable" is what exporters know;
            "triton" is for CUDA.

    Returns:
        (B, H, N, E) in the dtype of v.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit together, or `backend` is unknown or cannot run here.
    """
    _check(q, k, v, semantics, bias)
    if is_autocast(q.device.type) and q.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    biased = bias is not None
    backend = pick_backend(
        backend, BACKENDS, lambda: choose_backend(q, semantics.k, biased=biased), lambda name: _why_not(name, q)
    )
    if bias is not None and backend not in TABLE_BACKENDS:
        bias = dense_bias(bias, q.shape[2], q.shape[0])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    with without_autocast(q.device.type):
        if backend in KERNEL_BACKENDS or only_standard_operators():
            return BACKENDS[backend](q, k, v, semantics, bias, scale)
        return attend_contained(BACKENDS[backend], q, k, v, semantics, bias, scale)


def choose_backend(q: Tensor, keys: int | None = None, *, biased: bool = True) -> tuple[str, str]:
    """Return which backend `key_semantic_attention` takes, and why.

    Args:
        q: Queries (B, H, N, D) like those to come.
        keys: Of each query's dictionary, if that is known.
        biased: Whether a bias is added to the scores.
    """
    if reason := why_standard_operators():
        return "portable", reason
    fast = "native" if q.device.type == "cpu" else "triton"
    reason = _why_not(fast, q)
    if fast == "native":
        if reason is None:
            return "native", "fastest on a CPU at every size measured, and its time falls with k"
        name, why = _choose_operators(q, biased)
        return name, f"{why}; {reason}"
    if reason is None:
        return "triton", _why_triton(q.shape[2], keys)
    return "sdpa", f"PyTorch's fused attention runs on every device; {reason}"


def _choose_operators(q: Tensor, biased: bool) -> tuple[str, str]:
    """Return what is quickest on a CPU of what PyTorch's operators can do, and why; measured in docs/ops.md."""
    scores, training = q.shape[0] * q.shape[1] * q.shape[2] ** 2, torch.is_grad_enabled() and q.requires_grad
    if not biased:
        return "sdpa", "without a bias PyTorch's fused attention passes once over the mask"
    if scores <= (LARGEST_TRAINED_SUM if training else LARGEST_SUM):
        return "sdpa", "PyTorch's fused attention is quickest while bias and mask of all heads are small"
    return "blockwise", "bias and mask of all heads are large, and those of a block stay in the cache"


def _why_triton(tokens: int, keys: int | None) -> str:
    if keys is not None and keys >= tokens:
        return f"least memory: all {tokens} keys of all queries, and never a matrix of their scores"
    share = "k / N" if keys is None else f"k / N = {keys / tokens:.2g}"
    return f"least memory, and groups of like queries meet little more than {share} of the keys"


def _why_not(backend: str, q: Tensor) -> str | None:
    if backend in REGISTERED_BACKENDS and differentiated_by_transform():
        return TRANSFORM_REASON
    if backend == "native":
        return native_support.why_not(native_backend.SOURCE, q.device, q.dtype)
    return triton_support.why_not_heads(q) if backend == "triton" else None


def _check(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None) -> None:
    check_heads(q, k, v, any_value_width=True)
    b, h, n, _ = q.shape
    if semantics.shape[:2] != (b, n):
        raise ValueError(f"the dictionary is of (B, N) = {semantics.shape[:2]}, but q has (B, N) = {(b, n)}")
    if bias is not None:
        check_bias(bias, h, n)
    check_one_device(*(t.device for t in (q, k, v, semantics, bias) if t is not None))
