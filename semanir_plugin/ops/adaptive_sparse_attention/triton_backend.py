"""Adaptive sparse attention on Triton kernels: their configurations, how they are launched, the op made of them.

The forward keeps the log-sum-exp of each query's scores, 4 bytes per query and head, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
import triton
from torch import Tensor

from semanir_plugin.ops.adaptive_sparse_attention import triton_kernels as kernels
from semanir_plugin.ops.common.layout import empty_heads
from semanir_plugin.ops.common.triton_support import TYPES, padded_width, precision

__all__ = ["attend", "compilations"]

# Programs that divide the windows among them, where each has a part of the bias's gradient.
PROGRAMS_PER_PROCESSOR = 4
INTERPRETED_PROGRAMS = 8

WINDOW_KERNELS = (
    kernels.adaptive_sparse_attention_window_fwd_kernel,
    kernels.adaptive_sparse_attention_window_bwd_kernel,
)
TILED_KERNELS = (
    kernels.adaptive_sparse_attention_tiled_fwd_kernel,
    kernels.adaptive_sparse_attention_tiled_bwd_q_kernel,
    kernels.adaptive_sparse_attention_tiled_bwd_kv_kernel,
    kernels.adaptive_sparse_attention_tiled_bwd_bias_kernel,
)
ROWS = ("p_q", "p_k", "p_v", "p_grad", "p_out", "p_dq", "p_dk", "p_dv")

_INPUTS = "Tensor q, Tensor k, Tensor v, Tensor weights, Tensor? bias, Tensor? regions"


def compilations() -> Iterator[tuple[Any, dict[str, str], dict[str, Any], int, int]]:
    """Yield all that dispatch can choose: kernel, types of its arguments, constants, num_warps, num_stages."""
    kinds = (*((dtype, "ieee") for dtype in TYPES), (torch.float32, "tf32"))
    for (dtype, rounding), d, *has in product(kinds, (16, 32, 64, 128), (True, False), (True, False)):
        sizes = sorted({_tile(dtype, n, d) for n in (32, 64)})
        for kernel, n in (*product(WINDOW_KERNELS, sizes), *product(TILED_KERNELS, (sizes[-1] + 1,))):
            constants, num_warps, num_stages = _configure(dtype, n, d, rounding, *has)
            if kernel is kernels.adaptive_sparse_attention_tiled_bwd_bias_kernel and not constants["HAS_BIAS"]:
                continue
            absent = [] if constants["HAS_BIAS"] else ["p_bias", "p_dbias"]
            absent += [] if constants["HAS_REGIONS"] else ["p_regions"]
            constants |= {name: None for name in absent if name in kernel.arg_names}
            signature = {name: _type(name, dtype) for name in kernel.arg_names if name not in constants}
            yield kernel, signature, constants, num_warps, num_stages


def _configure(
    dtype: torch.dtype, n: int, d: int, rounding: str, has_bias: bool, has_regions: bool
) -> tuple[dict[str, Any], int, int]:
    """Return the constants of all kernels, num_warps and num_stages.

    Chosen so that registers suffice on every GPU; no choice has been measured.
    """
    constants = {
        "BN": _tile(dtype, n, d),
        "BD": padded_width(d),
        "HAS_BIAS": has_bias,
        "HAS_REGIONS": has_regions,
        "PRECISION": rounding,
    }
    num_warps = 4 if (n <= 32 and d <= 32) or (rounding == "tf32" and d > 64) else 8
    return constants, num_warps, 1 if dtype == torch.float32 else 2


def _tile(dtype: torch.dtype, n: int, d: int) -> int:
    """Return the queries, and keys, of a tile; windows of no more tokens are one."""
    if dtype == torch.float32:  # its products hold whole rows of both factors in registers
        return 32 if d <= 64 else 16
    return 32 if n <= 32 or d > 32 else 64


def _is_one_tile(q: Tensor) -> bool:
    return q.shape[2] <= _tile(q.dtype, q.shape[2], q.shape[3])


def _type(name: str, dtype: torch.dtype) -> str:
    if name.startswith("p_"):
        return "*i32" if name == "p_regions" else "*" + (TYPES[dtype] if name in ROWS else "fp32")
    return "fp32" if name == "scale" else "i32"


def _launch(kernel: Any, grid: tuple[int, ...], values: dict[str, Any]) -> None:
    """Run a kernel on those of the values that it names."""
    q = values["p_q"]
    has = (values["p_bias"] is not None, values["p_regions"] is not None)
    rounding = precision() if q.dtype == torch.float32 else "ieee"
    constants, num_warps, num_stages = _configure(q.dtype, q.shape[2], q.shape[3], rounding, *has)
    arguments = {name: values[name] for name in kernel.arg_names if name not in constants}
    with torch.cuda.device_of(q):
        kernel[grid](**arguments, **constants, num_warps=num_warps, num_stages=num_stages)


def _values(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> dict[str, Any]:
    """Return the arguments that all kernels share, by name."""
    b, h, n, d = q.shape
    return {
        **_rows("p_q", "s_q", q),
        **_rows("p_k", "s_k", k),
        **_rows("p_v", "s_v", v),
        "p_weights": weights.float().contiguous(),
        "p_bias": None if bias is None else bias.float().contiguous(),
        "p_regions": None if regions is None else regions.int().contiguous(),
        **{"B": b, "H": h, "R": 1 if regions is None else len(regions), "N": n, "D": d},
        **{"SHARE": _share(q), "scale": scale},
    }


def _rows(pointer: str, stride: str, x: Tensor) -> dict[str, Any]:
    """Return the pointer and stride arguments of a (B, H, N, D) tensor; copied only if its rows are not contiguous."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    return {pointer: x, **{f"{stride}{axis}": x.stride(i) for i, axis in enumerate("bhn")}}


def _tiles(q: Tensor) -> int:
    result: int = triton.cdiv(q.shape[2], _tile(q.dtype, *q.shape[2:]))
    return result


def _share(q: Tensor) -> int:
    """Return the number of windows per program, for kernels whose programs go through windows."""
    programs = INTERPRETED_PROGRAMS
    if q.device.type == "cuda":
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
        programs = PROGRAMS_PER_PROCESSOR * processors
    result: int = triton.cdiv(q.shape[0], max(1, programs // (q.shape[1] * _tiles(q) ** 2)))
    return result


@torch.library.custom_op(
    "semanir_plugin::adaptive_sparse_triton",
    mutates_args=(),
    schema=f"({_INPUTS}, float scale) -> (Tensor, Tensor)",
)
def _forward(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    out, lse = empty_heads(v), q.new_empty(q.shape[:3], dtype=torch.float32)
    if q.numel():
        b, h = q.shape[:2]
        values = {**_values(q, k, v, weights, bias, regions, scale), "p_out": out, "p_lse": lse}
        if _is_one_tile(q):
            _launch(kernels.adaptive_sparse_attention_window_fwd_kernel, (h, triton.cdiv(b, values["SHARE"])), values)
        else:
            _launch(kernels.adaptive_sparse_attention_tiled_fwd_kernel, (_tiles(q) * h * b,), values)
    return out, lse


@_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    return empty_heads(v), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op(
    "semanir_plugin::adaptive_sparse_triton_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor lse, {_INPUTS}, float scale) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    regions: Tensor | None,
    scale: float,
) -> tuple[Tensor, ...]:
    rows = tuple(empty_heads(x) for x in (q, k, v))
    if not q.numel():
        return *rows, weights.new_zeros(weights.shape), q.new_zeros(0) if bias is None else bias.new_zeros(bias.shape)
    values = _values(q, k, v, weights, bias, regions, scale)
    values |= {**_rows("p_grad", "s_g", grad), "p_lse": lse, **dict(zip(("p_dq", "p_dk", "p_dv"), rows, strict=True))}
    differentiate = _window_backward if _is_one_tile(q) else _tiled_backward
    dweights, dbias = differentiate(values)
    return *rows, dweights.to(weights.dtype), q.new_empty(0) if bias is None else dbias.to(bias.dtype)


def _window_backward(values: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Fill dq, dk and dv; return the gradients of the weights, and of the bias where there is one."""
    lse, h, n = values["p_lse"], values["H"], values["N"]
    shares = triton.cdiv(values["B"], values["SHARE"])
    dweights = lse.new_empty(shares, h, 2)
    dbias = None if values["p_bias"] is None else lse.new_empty(shares, h, n, n)
    _launch(
        kernels.adaptive_sparse_attention_window_bwd_kernel,
        (h, shares),
        {**values, "p_dweights": dweights, "p_dbias": dbias},
    )
    return dweights.sum((0, 1)), dweights if dbias is None else dbias.sum(0)


def _tiled_backward(values: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Fill dq, dk and dv; return the gradients of the weights, and of the bias where there is one."""
    lse, h, n = values["p_lse"], values["H"], values["N"]
    tiles, shares = _tiles(values["p_q"]), triton.cdiv(values["B"], values["SHARE"])
    programs = tiles * h * values["B"]
    dweights = lse.new_empty(programs, 2)
    values = {**values, "p_delta": torch.empty_like(lse), "p_dweights": dweights}
    _launch(kernels.adaptive_sparse_attention_tiled_bwd_q_kernel, (programs,), values)
    _launch(kernels.adaptive_sparse_attention_tiled_bwd_kv_kernel, (programs,), values)
    if values["p_bias"] is None:
        return dweights.sum(0), dweights
    dbias = lse.new_empty(shares, h, n, n)
    _launch(
        kernels.adaptive_sparse_attention_tiled_bwd_bias_kernel,
        (tiles * tiles, h, shares),
        {**values, "p_dbias": dbias},
    )
    return dweights.sum(0), dbias.sum(0)


@_backward.register_fake
def _(
    grad: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    regions: Tensor | None,
    scale: float,
) -> tuple[Tensor, ...]:
    dbias = q.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return empty_heads(q), empty_heads(k), empty_heads(v), weights.new_empty(weights.shape), dbias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(output[1], *tensors)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    lse, q, k, v, weights, bias, regions = ctx.saved_tensors
    dq, dk, dv, dweights, dbias = _backward(grad, lse, q, k, v, weights, bias, regions, ctx.scale)
    return dq, dk, dv, dweights, None if bias is None else dbias, None, None


_forward.register_autograd(_gradients, setup_context=_setup_context)


def attend(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, bias: Tensor | None, regions: Tensor | None, scale: float
) -> Tensor:
    """Return (B, H, N, D); arguments as in `adaptive_sparse_attention`, the bias dense; accumulated in fp32."""
    out: Tensor = _forward(q, k, v, weights, bias, regions, scale)[0]
    return out
