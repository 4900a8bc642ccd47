"""Key-semantic attention for GPUs: Triton kernels that visit only the tiles that the dictionary fills.

Nothing of the size of the scores is ever made: the backward computes them again, and sums the gradient of the bias over
windows inside one program. No kernel uses atomics, so two runs give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import gcd, prod
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from semanir_plugin.ops.key_semantic_attention import triton_kernels as kernels
from semanir_plugin.ops.key_semantic_attention.tiles import tiles_of
from semanir_plugin.ops.key_semantics import KeySemantics
from semanir_plugin.ops.position_table import is_table

__all__ = ["attend", "compilations", "configuration", "tile_of"]

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
# Tables of more entries, of windows over 32 x 32, and those of wider heads are read from memory: they fill too many
# registers.
LARGEST_TABLE = 4096
LARGEST_WIDTH_WITH_TABLE = 32
# Fewer programs than this leave large GPUs idle: the gradient of the bias then splits the windows between programs.
ENOUGH_PROGRAMS = 1024


def tile_of(dtype: torch.dtype) -> tuple[int, int]:
    """Return (size, step): queries, and keys, of a tile, and how many of either the kernels take at a time.

    The size is a multiple of 32, the step a divisor of 32.
    """
    # Products in full fp32 hold whole rows of both factors in registers.
    return (32, 16) if dtype == torch.float32 else (64, 32)


def configuration(name: str, dtype: torch.dtype, width: int) -> dict[str, int]:
    """Return num_warps and num_stages of a kernel for heads padded to `width`, a power of two.

    Chosen so that registers suffice on every GPU; no choice has been measured.
    """
    single = dtype == torch.float32
    num_warps = 4 if width <= (64 if single else 32) else 8
    if name == "bias":
        return {"num_warps": num_warps if single else 8, "num_stages": 2}
    few_stages = name == "forward" and width <= 32 if single else width > 64
    return {"num_warps": num_warps, "num_stages": 2 if few_stages else 3}


def compilations() -> Iterator[tuple[Any, dict[str, str], dict[str, Any], int, int]]:
    """Yield (kernel, signature, constants, num_warps, num_stages) for all that dispatch can choose.

    Of what has no end, heads' widths, alignments and sides of windows, there are the extremes; fp16 is as bf16.
    """
    for dtype, width in product((torch.float32, torch.bfloat16), (16, 32, 64, 128)):
        for name, side, dense in product(("forward", "queries", "keys", "bias"), (0, 32, 64), (False, True)):
            if (side and dense) or (name == "bias" and not (side or dense)):
                continue
            kernel = getattr(kernels, f"{name}_kernel")
            constants = _constants(dtype, width - 2, side, align=2 * dtype.itemsize)
            if name == "bias":
                constants |= _patch(dtype, width, side)
            if not (side or dense):
                constants["p_bias"] = None
            constants = {each: constants[each] for each in kernel.arg_names if each in constants}
            yield kernel, _signature(kernel, constants, dtype), constants, *configuration(name, dtype, width).values()


def _signature(kernel: Any, constants: dict[str, Any], dtype: torch.dtype) -> dict[str, str]:
    types = {"scale": "fp32"} | dict.fromkeys(("p_bias", "p_lse", "p_delta", "p_parts"), "*fp32")
    types |= dict.fromkeys(("p_order", "p_bits", "p_lists", "p_counts", "p_packed"), "*i32")
    rows = dict.fromkeys(("p_q", "p_k", "p_v", "p_out", "p_grad", "p_dq", "p_dk", "p_dv"), f"*{DTYPES[dtype]}")
    types |= rows | dict.fromkeys(constants, "constexpr")
    return {name: types.get(name, "i32") for name in kernel.arg_names}


def _constants(dtype: torch.dtype, d: int, side: int, align: int) -> dict[str, Any]:
    width = _width(d)
    size, step = tile_of(dtype)
    entries = triton.next_power_of_2((2 * side - 1) ** 2) if side else 0
    return {
        "SIDE": side,
        "ENTRIES": entries if entries <= LARGEST_TABLE and width <= LARGEST_WIDTH_WITH_TABLE else 0,
        "ALIGN": align,
        "D": d,
        "BD": width,
        "SIZE": size,
        "STEP": step,
    }


def _patch(dtype: torch.dtype, width: int, side: int) -> dict[str, int]:
    """Return the tile of the bias's gradient, and the shape of the patch of tokens that it is."""
    size = 32 if dtype == torch.float32 or width > 32 else 64
    columns = min(side, size) if side else size
    return {"SIZE": size, "ROWS": min(side, size // columns) if side else 1, "COLUMNS": columns}


def _width(d: int) -> int:
    return max(16, triton.next_power_of_2(d))


def _arguments(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, grad: Tensor) -> dict[str, Any]:
    """Return what all kernels of attention are given; the forward knows no `grad`, and gets any tensor like q."""
    b, h, n, d = q.shape
    tensors = {"q": _rows(q), "k": _rows(k), "v": _rows(v), "grad": _rows(grad)}
    strides = {f"s_{name[0]}{axis}": x.stride(i) for name, x in tensors.items() for i, axis in enumerate("bhn")}
    side = 0 if bias is None or not is_table(bias, n) else (bias.shape[1] + 1) // 2
    align = _alignment(*tensors.values())
    pointers = {f"p_{name}": x for name, x in tensors.items()}
    bias = None if bias is None else bias.contiguous()
    return {
        **pointers,
        "p_bias": bias,
        **strides,
        "scale": scale,
        "B": b,
        "H": h,
        "N": n,
        **_constants(q.dtype, d, side, align),
    }


def _rows(x: Tensor) -> Tensor:
    # Kernels take any strides but that of the last axis, and count within a window in 32 bits.
    return x if x.stride(-1) == 1 and x.shape[2] * x.stride(2) < 2**31 else x.contiguous()


def _alignment(*tensors: Tensor) -> int:
    """Return the bytes, 16 at most, of which all rows of the tensors, and of our outputs, begin at multiples."""
    steps = [step for x in tensors for step in (x.shape[-1], *x.stride()[:-1])]
    return gcd(16, tensors[0].itemsize * gcd(*steps), *(x.data_ptr() for x in tensors))


def _tiled(tiles: Sequence[Tensor]) -> dict[str, Any]:
    _, order, bits, lists, counts = tiles
    return {"p_order": order, "p_bits": bits, "p_lists": lists, "p_counts": counts, "T": counts.shape[-1]}


def _launch(name: str, programs: int, arguments: dict[str, Any]) -> None:
    """Run a kernel on those of the arguments that it has."""
    kernel, q = getattr(kernels, f"{name}_kernel"), arguments["p_q"]
    own = {each: arguments[each] for each in kernel.arg_names}
    if programs:
        with torch.cuda.device_of(q):
            kernel[(programs,)](**own, **configuration(name, q.dtype, arguments["BD"]))


def _empty_rows(x: Tensor) -> Tensor:
    # (B, N, H, D) in memory, as the projection after attention reads it.
    b, h, n, d = x.shape
    return x.new_empty(b, n, h, d).transpose(1, 2)


def _bias_gradient(arguments: dict[str, Any], packed: Tensor, bias: Tensor) -> Tensor:
    b, h, n, side = (arguments[each] for each in ("B", "H", "N", "SIDE"))
    patch = _patch(arguments["p_q"].dtype, arguments["BD"], side)
    size = patch["SIZE"]
    across = -(-side // patch["COLUMNS"])
    tiles = -(-side // patch["ROWS"]) if side else -(-n // size)
    pairs = (2 * tiles - 1, across, across) if side else (tiles, tiles)
    tasks = prod(pairs)
    splits = max(1, min(b, ENOUGH_PROGRAMS // (h * tasks)))
    parts = bias.new_empty(splits, h, *pairs, size, size, dtype=torch.float32)
    more = {"p_packed": packed, "p_parts": parts, "W": packed.shape[-1], "T": tiles, "SPLITS": splits, **patch}
    _launch("bias", h * splits * tasks, arguments | more)
    summed = parts.sum(0)
    if side:
        summed = _sum_patches(summed, side, patch["ROWS"], patch["COLUMNS"])
    else:
        summed = summed.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :n, :n]
    return summed.to(bias.dtype).contiguous()  # as the fake announces


def _sum_patches(x: Tensor, side: int, rows: int, columns: int) -> Tensor:
    """Sum what belongs to one entry of the table.

    Args:
        x: (H, 2T - 1, A, A, S, S): by distance in tiles, of `rows` rows each, and by the tiles across the window, of
            query and key; in the last two, the first rows * columns tokens are the query's and the key's.
        side: Of the window.
        rows: Of the patch of tokens that is a tile.
        columns: Likewise.

    Returns:
        (H, 2 * side - 1, 2 * side - 1).
    """
    tokens = rows * columns
    x = x[..., :tokens, :tokens].unflatten(-1, (rows, columns)).unflatten(-3, (rows, columns))
    x = x.permute(0, 1, 4, 6, 2, 5, 3, 7)  # (H, distance, row, row', A, column, A', column')
    x = x.flatten(6, 7).flatten(4, 5)[..., :side, :side]
    x = _sum_diagonals(_sum_diagonals(x).movedim(-1, 2))  # (H, distance, 2 * side - 1, 2 * rows - 1)
    # Neighbours in distance overlap: what reaches over rows belongs to the next.
    x = F.pad(x.movedim(-1, 2), (0, 0, 0, 1)).unflatten(2, (2, rows))
    x = F.pad(x[:, :, 0], (0, 0, 0, 0, 0, 1)) + F.pad(x[:, :, 1], (0, 0, 0, 0, 1, 0))
    x = x.flatten(1, 2)  # (H, 2 * T * rows, 2 * side - 1), the distance 0 at T * rows - 1
    first = x.shape[1] // 2 - side
    return x[:, first : first + 2 * side - 1]


def _sum_diagonals(x: Tensor) -> Tensor:
    """Sum (..., w, w) along its diagonals to (..., 2w - 1): entry i - j + w - 1 is of all x[..., i, j]."""
    w = x.shape[-1]
    # Rows of 2w - 1 read from rows of 2w begin one later each: row i is shifted by i.
    x = F.pad(x.flip(-1), (0, w)).flatten(-2)[..., : w * (2 * w - 1)]
    return x.unflatten(-1, (w, 2 * w - 1)).sum(-2)


@torch.library.custom_op("semanir_plugin::key_semantic_attention", mutates_args=())
def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """Return (B, H, N, D), and (B, H, N) fp32, the base-2 logarithm of each softmax's denominator.

    `tiles` are the packed mask and the fields of `Tiles`, the others as in `key_semantic_attention`.
    """
    out, lse = _empty_forward(q, k, v, bias, tiles, scale)
    arguments = _arguments(q, k, v, bias, scale, q) | _tiled(tiles) | {"p_out": out, "p_lse": lse}
    _launch("forward", lse.shape[0] * lse.shape[1] * arguments["T"], arguments)
    return out, lse


@forward.register_fake
def _empty_forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    return _empty_rows(v), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("semanir_plugin::key_semantic_attention_backward", mutates_args=())
def backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    tiles: Sequence[Tensor],
    scale: float,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and bias, the last one without elements unless it is needed."""
    dq, dk, dv = (_empty_rows(each) for each in (q, k, v))
    arguments = _arguments(q, k, v, bias, scale, grad) | {"p_lse": lse, "p_delta": torch.empty_like(lse)}
    tiled = arguments | _tiled(tiles) | {"p_out": out, "p_dq": dq, "p_dk": dk.zero_(), "p_dv": dv.zero_()}
    programs = lse.shape[0] * lse.shape[1] * tiled["T"]
    _launch("queries", programs, tiled)  # before the others, which read its delta
    _launch("keys", programs, tiled)  # which leaves out keys that nobody chose
    if bias is None or not needs_bias:
        return dq, dk, dv, q.new_empty(0)
    return dq, dk, dv, _bias_gradient(arguments, tiles[0], bias)


@backward.register_fake
def _(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    tiles: Sequence[Tensor],
    scale: float,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dbias = q.new_empty(0) if bias is None or not needs_bias else bias.new_empty(bias.shape)
    return _empty_rows(q), _empty_rows(k), _empty_rows(v), dbias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, tiles, ctx.scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, q, k, v, bias, *tiles)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    out, lse, q, k, v, bias, *tiles = ctx.saved_tensors
    needs_bias = ctx.needs_input_grad[3]
    dq, dk, dv, dbias = backward(grad, out, lse, q, k, v, bias, tiles, ctx.scale, needs_bias)
    return dq, dk, dv, dbias if needs_bias else None, [None] * len(tiles), None


forward.register_autograd(_backward, setup_context=_setup_context)


def attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, bias: Tensor | None, scale: float) -> Tensor:
    """Return (B, H, N, D); arguments as in `key_semantic_attention`, a table of biases as it is.

    A NaN in a query stays in its row. One in a key reaches the queries that chose the key; one in a value also others
    of their tiles, because their weight of 0 times NaN is NaN. Keys that no query of the window chose are never read.
    """
    tiles = tiles_of(semantics, tile_of(q.dtype)[0])
    return forward(q, k, v, bias, [semantics.packed(), *tiles], scale)[0]
