"""Softmax attention of every query over the keys of its key-semantic dictionary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from semanir_plugin.ops import native_support, triton_support
from semanir_plugin.ops.key_semantic_attention import blockwise, flex, gather, mask, naive, native_backend, sdpa
from semanir_plugin.ops.key_semantic_attention.non_finite import attend_contained
from semanir_plugin.ops.key_semantics import KeySemantics
from semanir_plugin.ops.position_table import check_bias, dense_bias

__all__ = ["choose_backend", "key_semantic_attention"]


def _triton(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    # Imported when it is asked for: Triton takes a second to import, and is not on every machine.
    if reason := triton_support.why_not_heads(q):
        raise ValueError(f"backend 'triton' cannot run here: {reason}")
    from semanir_plugin.ops.key_semantic_attention import triton_backend

    return triton_backend.attend(q, k, v, semantics, bias, scale)


BACKENDS = {
    "naive": naive.attend,
    "mask": mask.attend,
    "gather": gather.attend,
    "sdpa": sdpa.attend,
    "flex": flex.attend,
    "blockwise": blockwise.attend,
    "native": native_backend.attend,
    "triton": _triton,
}
# These read a relative-position table on the fly; the others get it as a dense bias.
TABLE_BACKENDS = {"flex", "native", "triton"}
# The kernels of these take values as wide as keys.
ONE_WIDTH_BACKENDS = {"triton"}
# The kernels of these never combine a query with a key that it did not choose; PyTorch's operators do.
KERNEL_BACKENDS = {"native", "triton"}


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

    Equal to dense attention with -inf on all other keys. Under autocast, q, k and v are cast to its dtype.
    SemanIR (NeurIPS 2024), section 3.3.

    A NaN in a query stays in its row. NaN and infinity in keys and values reach the queries that chose them, whose
    whole rows may become NaN, and nobody else; what nobody chose reaches nobody.

    Args:
        q: (B, H, N, D) queries of B windows.
        k: (B, H, N, D) keys.
        v: (B, H, N, E) values.
        semantics: Dictionary of the same B windows of N tokens, shared by all heads.
        bias: Added to the scaled scores of every window: dense, (H, N, N), or a relative-position table,
            (H, 2w - 1, 2w - 1) for windows of N = w * w tokens row by row, in which query (y, x) and key (y', x') have
            the entry [h, y - y' + w - 1, x - x' + w - 1].
        scale: Factor on q . k; None: D ** -0.5.
        backend: "auto" takes what `choose_backend` names. "naive" is the definition; "mask" and "gather" are the
            paper's Torch-Mask and Torch-Gather; "sdpa" and "flex" go through PyTorch's fused and flexible attention;
            "blockwise" and "native" are for CPUs, the latter needs a C compiler; "triton" is for CUDA.

    Returns:
        (B, H, N, E) in the dtype of v.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit together, or `backend` is unknown or cannot run here.
    """
    _check(q, k, v, semantics, bias, backend)
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if backend == "auto":
        backend, _ = choose_backend(q)
    if bias is not None and backend not in TABLE_BACKENDS:
        bias = dense_bias(bias, q.shape[2])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast(q.device.type, enabled=False):
        if backend in ONE_WIDTH_BACKENDS and q.shape != v.shape:
            return _attend_padded(backend, q, k, v, semantics, bias, scale)
        if backend in KERNEL_BACKENDS:
            return BACKENDS[backend](q, k, v, semantics, bias, scale)
        return attend_contained(BACKENDS[backend], q, k, v, semantics, bias, scale)


def _attend_padded(
    backend: str, q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float
) -> Tensor:
    """Attend with zeros beside what is narrower: they change no score, and their output is dropped."""
    width, values = max(q.shape[-1], v.shape[-1]), v.shape[-1]
    q, k, v = (functional.pad(each, (0, width - each.shape[-1])) for each in (q, k, v))
    return BACKENDS[backend](q, k, v, semantics, bias, scale)[..., :values]


def choose_backend(q: Tensor) -> tuple[str, str]:
    """Return which backend `key_semantic_attention` takes for queries (B, H, N, D) like this one, and why."""
    if q.device.type == "cpu":
        reason = native_support.why_not(native_backend.SOURCE, q.device, q.dtype)
        if reason is None:
            return "native", "fastest on a CPU at every size measured, and its time falls with k"
        return "blockwise", f"fastest on a CPU of what PyTorch's operators can do; {reason}"
    reason = triton_support.why_not_heads(q)
    if reason is None:
        return "triton", "least memory, and its time falls with k"
    return "sdpa", f"PyTorch's fused attention runs on every device; {reason}"


def _check(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, backend: str) -> None:
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"backend must be one of {('auto', *BACKENDS)}, got {backend!r}")
    if q.ndim != 4 or q.shape != k.shape or q.shape[:3] != v.shape[:-1]:
        shapes = [tuple(t.shape) for t in (q, k, v)]
        raise ValueError(f"q and k must have one shape (B, H, N, D), and v (B, H, N, E), got {shapes}")
    b, h, n, _ = q.shape
    if semantics.shape[:2] != (b, n):
        raise ValueError(f"the dictionary is of (B, N) = {semantics.shape[:2]}, but q has (B, N) = {(b, n)}")
    if bias is not None:
        check_bias(bias, h, n)
    devices = {t.device for t in (q, k, v, semantics, bias) if t is not None}
    if len(devices) > 1:
        raise ValueError(f"all inputs must be on one device, got {sorted(map(str, devices))}")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k and v must have one floating dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
