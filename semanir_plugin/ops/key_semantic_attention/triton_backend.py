"""Key-semantic attention for GPUs: Triton kernels in which groups of like queries meet only the keys they chose.

Nothing of the size of the scores is ever made: the backward computes them again, and sums the gradient of the bias over
windows inside one program. No kernel uses atomics, so two runs give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
import triton
from torch import Tensor

from semanir_plugin.ops.common.layout import empty_heads
from semanir_plugin.ops.common.position_table import is_table, table_side
from semanir_plugin.ops.common.triton_support import TYPES, aligned_rows, empty_aligned, padded_width, precision
from semanir_plugin.ops.key_semantic_attention import triton_kernels as kernels
from semanir_plugin.ops.key_semantic_attention.bias_gradient import BiasTiles
from semanir_plugin.ops.key_semantic_attention.triton_groups import GROUP, by_key, by_query
from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["attend", "compilations", "configuration"]

# Tables of more entries, of windows over 32 x 32, and those of wider heads are read from memory: they fill too many
# registers.
LARGEST_TABLE = 4096
LARGEST_WIDTH_WITH_TABLE = 32
# Fewer programs than this leave large GPUs idle: the gradient of the bias then splits the windows between programs.
ENOUGH_PROGRAMS = 1024


# By kernel, and by the width of the rows: BM, BN, num_warps and num_stages without a bias, and with one. Chosen by
# counted instructions, and so that registers suffice on every GPU; no choice has been measured. Rows are copied while
# the step before is computed from 5 stages on: two are taken by the list that names them.
_NARROW, _WIDE, _SMALL = (64, 64, 4, 5), (64, 64, 4, 2), (32, 32, 4, 2)
HALF = {
    "fwd": {32: (_NARROW, _NARROW), 64: (_WIDE, (64, 32, 4, 2)), 128: (_SMALL, _SMALL)},
    "bwd_q": {32: (_NARROW, _NARROW), 64: (_WIDE, (64, 32, 4, 2)), 128: (_SMALL, _SMALL)},
    "bwd_kv": {32: (_NARROW, (64, 32, 4, 1)), 64: (_WIDE, _SMALL), 128: ((32, 16, 4, 2), (32, 16, 4, 2))},
    "bwd_bias": {32: (_WIDE, _WIDE), 64: (_SMALL, _SMALL), 128: ((32, 32, 8, 2), (32, 32, 8, 2))},
}
TF32 = {32: (64, 32, 4, 2), 64: (32, 32, 4, 2), 128: (32, 16, 4, 2)}
# Products in full fp32 hold whole rows of both factors in registers.
EXACT = {32: (64, 16, 8, 1), 64: (32, 16, 8, 1), 128: (16, 16, 8, 1)}


def configuration(name: str, dtype: torch.dtype, width: int, exact: bool, biased: bool) -> dict[str, int]:
    """Return the sizes, num_warps and num_stages of a kernel.

    Args:
        name: "fwd", "bwd_q", "bwd_kv" or "bwd_bias".
        dtype: Of the rows.
        width: The widest of the rows, padded.
        exact: fp32 products are not rounded to TF32.
        biased: There is a bias.
    """
    width = max(width, 32)
    if dtype != torch.float32:
        sizes = HALF[name][width][biased]
    elif name == "bwd_bias":
        sizes = (32, 32, 4 if width <= 32 else 8, 1 if exact and width > 64 else 2)
    else:
        sizes = (EXACT if exact else TF32)[width]
    return dict(zip(("BM", "BN", "num_warps", "num_stages"), sizes, strict=True))


def compilations() -> Iterator[tuple[Any, dict[str, str], dict[str, Any], int, int]]:
    """Yield (kernel, signature, constants, num_warps, num_stages) for all that dispatch can choose.

    Of what has no end, heads' widths and sides of windows, there are the extremes; fp16 is as bf16.
    """
    kinds = ((torch.float32, "ieee"), (torch.float32, "tf32"), (torch.bfloat16, "ieee"))
    widths = ((16, 16), (32, 32), (64, 32), (64, 64), (128, 128))
    biases = ((0, False), (0, True), (32, False), (64, False))
    for kind, width, bias, name in product(kinds, widths, biases, HALF):
        if name != "bwd_bias" or any(bias):
            yield _compilation(name, *kind, *width, *bias)


def _compilation(
    name: str, dtype: torch.dtype, rounding: str, bd: int, bdv: int, side: int, dense: bool
) -> tuple[Any, dict[str, str], dict[str, Any], int, int]:
    kernel = getattr(kernels, f"key_semantic_attention_{name}_kernel")
    biased = bool(side) or dense
    values = _constants(bd - 2, bdv - 2, side) | {"PRECISION": rounding}
    values |= configuration(name, dtype, max(bd, bdv), rounding == "ieee", biased)
    if name == "bwd_bias":
        values |= BiasTiles.of(side, values["BM"]).constants()
    if not biased:
        values["p_bias"] = None
    constants = {each: values[each] for each in kernel.arg_names if each in values}
    return kernel, _signature(kernel, constants, dtype), constants, values["num_warps"], values["num_stages"]


def _signature(kernel: Any, constants: dict[str, Any], dtype: torch.dtype) -> dict[str, str]:
    types = {"scale": "fp32"} | dict.fromkeys(("p_bias", "p_lse", "p_delta", "p_parts"), "*fp32")
    types |= dict.fromkeys(("p_order", "p_lists", "p_bits", "p_counts", "p_packed"), "*i32")
    rows = ("p_q", "p_k", "p_v", "p_out", "p_grad", "p_rows", "p_dq", "p_dk", "p_dv")
    types |= dict.fromkeys(rows, f"*{TYPES[dtype]}") | dict.fromkeys(constants, "constexpr")
    strides = {name: "i32:16" for name in kernel.arg_names if name.startswith("s_")}
    return {name: (strides | types).get(name, "i32") for name in kernel.arg_names}


def _constants(d: int, dv: int, side: int) -> dict[str, Any]:
    bd, bdv = padded_width(d), padded_width(dv)
    entries = triton.next_power_of_2((2 * side - 1) ** 2) if side else 0
    small = entries <= LARGEST_TABLE and max(bd, bdv) <= LARGEST_WIDTH_WITH_TABLE
    return {"SIDE": side, "ENTRIES": entries if small else 0, "D": d, "DV": dv, "BD": bd, "BDV": bdv}


def _arguments(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> dict[str, Any]:
    """Return the arguments that all kernels of attention share, by name."""
    b, h, n, d = q.shape
    rows = {"q": aligned_rows(q), "k": aligned_rows(k), "v": aligned_rows(v)}
    constants = _constants(d, v.shape[3], 0 if bias is None or not is_table(bias, n) else table_side(bias))
    return {
        **{f"p_{name}": x for name, x in rows.items()},
        **{f"s_{name}{axis}": x.stride(i) for name, x in rows.items() for i, axis in enumerate("bhn")},
        "p_bias": None if bias is None else _in_base_2(bias, constants["ENTRIES"]),
        **{"scale": scale, "B": b, "H": h, "N": n, "T": -(-n // GROUP), "PRECISION": precision()},
        **constants,
    }


def _in_base_2(bias: Tensor, entries: int) -> Tensor:
    """Return the bias as kernels read it: fp32, times log2(e), a table that is gathered from padded to `entries`."""
    flat = bias.flatten(1)
    padded = torch.empty(len(flat), entries or flat.shape[1], dtype=torch.float32, device=bias.device)
    torch.mul(flat.float(), kernels.LOG2_E.value, out=padded[:, : flat.shape[1]])
    return padded


def _grouped(groups: Sequence[Tensor]) -> dict[str, Any]:
    return dict(zip(("p_order", "p_lists", "p_bits", "p_counts"), groups, strict=True))


def _configuration(name: str, arguments: dict[str, Any]) -> dict[str, int]:
    width = max(arguments["BD"], arguments["BDV"])
    exact, biased = arguments["PRECISION"] == "ieee", arguments["p_bias"] is not None
    return configuration(name, arguments["p_q"].dtype, width, exact, biased)


def _launch(name: str, programs: int, arguments: dict[str, Any], sizes: dict[str, int]) -> None:
    """Run a kernel on those of the arguments that it has."""
    kernel = getattr(kernels, f"key_semantic_attention_{name}_kernel")
    values = arguments | sizes
    own = {each: values[each] for each in (*kernel.arg_names, "num_warps", "num_stages")}
    if programs:
        with torch.cuda.device_of(arguments["p_q"]):
            kernel[(programs,)](**own)


def _launch_groups(name: str, arguments: dict[str, Any]) -> None:
    sizes = _configuration(name, arguments)
    _launch(name, arguments["H"] * arguments["p_counts"].numel() * (GROUP // sizes["BM"]), arguments, sizes)


def _bias_gradient(arguments: dict[str, Any], packed: Tensor, bias: Tensor) -> Tensor:
    b, h, n = (arguments[each] for each in ("B", "H", "N"))
    sizes = _configuration("bwd_bias", arguments)
    tiles = BiasTiles.of(arguments["SIDE"], sizes["BM"])
    tasks = tiles.tasks(n)
    splits = max(1, min(b, ENOUGH_PROGRAMS // (h * tasks)))
    parts = bias.new_empty(splits, h, tasks, tiles.size, tiles.size, dtype=torch.float32)
    more = {"p_packed": packed, "p_parts": parts, "W": packed.shape[-1], "T": tiles.down(n), "SPLITS": splits}
    _launch("bwd_bias", h * splits * tasks, arguments | more, sizes | tiles.constants())
    return tiles.join(parts.sum(0), n).to(bias.dtype).contiguous()


@torch.library.custom_op("semanir_plugin::key_semantic_attention", mutates_args=())
def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, groups: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """Return (B, H, N, DV), and (B, H, N) fp32, the base-2 logarithm of each softmax's denominator.

    `groups` are those by query; for a backward, also those by key and the packed mask. The scale is positive.
    """
    out, lse = _empty_forward(q, k, v, bias, groups, scale)
    _launch_groups("fwd", _arguments(q, k, v, bias, scale) | _grouped(groups[:4]) | {"p_out": out, "p_lse": lse})
    return out, lse


@forward.register_fake
def _empty_forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, groups: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    return empty_heads(v), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("semanir_plugin::key_semantic_attention_backward", mutates_args=())
def backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    groups: Sequence[Tensor],
    scale: float,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and bias, the last one without elements unless it is needed."""
    dq, dk, dv, dbias = _empty_backward(grad, out, lse, q, k, v, bias, groups, scale, needs_bias)
    grad = grad if grad.stride(-1) == 1 else grad.contiguous()
    arguments = _arguments(q, k, v, bias, scale) | {"p_lse": lse, "p_delta": torch.empty_like(lse)}
    arguments |= {"p_rows": v.new_empty(*v.shape[:3], arguments["BDV"])}
    strides = {f"s_g{axis}": grad.stride(i) for i, axis in enumerate("bhn")}
    by_queries = arguments | strides | _grouped(groups[:4])
    _launch_groups("bwd_q", by_queries | {"p_grad": grad, "p_out": out, "p_dq": dq})  # first: the others read its delta
    _launch_groups("bwd_kv", arguments | _grouped(groups[4:8]) | {"p_dk": dk, "p_dv": dv})
    if bias is not None and needs_bias:
        dbias = _bias_gradient(arguments, groups[8], bias)
    return dq, dk, dv, dbias


@backward.register_fake
def _empty_backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    groups: Sequence[Tensor],
    scale: float,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dbias = q.new_empty(0) if bias is None or not needs_bias else bias.new_empty(bias.shape)
    return empty_aligned(q), empty_aligned(k), empty_aligned(v), dbias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, groups, ctx.scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, q, k, v, bias, *groups)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    out, lse, q, k, v, bias, *groups = ctx.saved_tensors
    needs_bias = ctx.needs_input_grad[3]
    dq, dk, dv, dbias = backward(grad, out, lse, q, k, v, bias, groups, ctx.scale, needs_bias)
    return dq, dk, dv, dbias if needs_bias else None, [None] * len(groups), None


forward.register_autograd(_backward, setup_context=_setup_context)


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, DV); arguments as in `key_semantic_attention`, a table of biases as it is; v has any width."""
    if scale <= 0:  # the kernels take the scale of the largest product for the largest score
        q, scale = (-q, -scale) if scale else (q * 0, 1.0)
    if not torch.compiler.is_compiling():  # the op would copy rows, too, but again in the backward
        q, k, v = aligned_rows(q), aligned_rows(k), aligned_rows(v)
    groups = by_query(semantics)
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (q, k, v, bias)):
        groups = [*groups, *by_key(semantics), semantics.packed()]
    out: Tensor = forward(q, k, v, bias, groups, scale)[0]
    return out
