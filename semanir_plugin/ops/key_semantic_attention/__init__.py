"""Softmax attention of every query over the keys of its key-semantic dictionary."""

from __future__ import annotations

from torch import Tensor

from semanir_plugin.ops.key_semantic_attention import blockwise, gather, mask, naive, sdpa
from semanir_plugin.ops.key_semantics import KeySemantics
from semanir_plugin.ops.position_table import check_bias, dense_bias

__all__ = ["key_semantic_attention"]

BACKENDS = {
    "naive": naive.attend,
    "mask": mask.attend,
    "gather": gather.attend,
    "sdpa": sdpa.attend,
    "blockwise": blockwise.attend,
}


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

    Equal to dense attention with -inf on all other keys. SemanIR (NeurIPS 2024), section 3.3.

    Args:
        q: (B, H, N, D) queries of B windows.
        k: (B, H, N, D) keys.
        v: (B, H, N, D) values.
        semantics: Dictionary of the same B windows of N tokens, shared by all heads.
        bias: Added to the scaled scores of every window: dense, (H, N, N), or a relative-position table,
            (H, 2w - 1, 2w - 1) for windows of N = w * w tokens row by row, in which query (y, x) and key (y', x') have
            the entry [h, y - y' + w - 1, x - x' + w - 1].
        scale: Factor on q . k; None: D ** -0.5.
        backend: "naive", "mask" and "gather" (the paper's Torch-Mask and Torch-Gather), "sdpa", "blockwise" (CPU), or
            "auto": "blockwise" on a CPU, else "sdpa".

    Returns:
        (B, H, N, D) in the dtype of v.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit together, or `backend` is unknown.
    """
    _check(q, k, v, semantics, bias, backend)
    if backend == "auto":
        backend = "blockwise" if q.device.type == "cpu" else "sdpa"
    if bias is not None:
        bias = dense_bias(bias, q.shape[2])
    return BACKENDS[backend](q, k, v, semantics, bias, q.shape[-1] ** -0.5 if scale is None else scale)


def _check(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, backend: str) -> None:
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"backend must be one of {('auto', *BACKENDS)}, got {backend!r}")
    if q.ndim != 4 or not q.shape == k.shape == v.shape:
        shapes = [tuple(t.shape) for t in (q, k, v)]
        raise ValueError(f"q, k and v must have one shape (B, H, N, D), got {shapes}")
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
