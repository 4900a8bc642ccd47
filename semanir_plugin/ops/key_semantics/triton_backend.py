"""The dictionary in kernels: similarities and selection on the chip, a bit per pair written.

Against a matrix of similarities that is written, searched and compared in device memory, this moves the features and
N * N / 8 bytes per window. A block of queries against a window of 1024 keys fills a multiprocessor's registers, so up
to there nothing else is stored. Longer rows would have to be computed again for each of the up to 32 passes of the
search; they go to a scratch instead, of one block per program of a grid that just fills the GPU.

Products are of numbers of 16 bits, on tensor cores. Only windows of fp32 features whose halves would not be exact (see
`triton_kernels`) are multiplied in fp32, by a launch of its own, whose programs end at once where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from semanir_plugin.ops.common.triton_support import TYPES, interpreted
from semanir_plugin.ops.key_semantics import triton_rows
from semanir_plugin.ops.key_semantics.packing import WORD
from semanir_plugin.ops.key_semantics.query_order import order_queries
from semanir_plugin.ops.key_semantics.triton_kernels import key_semantics_kernel, key_semantics_long_kernel
from semanir_plugin.ops.key_semantics.triton_rows import CHANNELS, lay_out

__all__ = ["compilations", "select_keys_packed"]

# Bytes of shared memory per block from which a second tile of keys of 32 bits can load while the first is used.
ROOMY = 136 << 10
# Tokens of windows whose similarities fill the registers of a multiprocessor.
ALONE = 1024
# Programs of a grid in Triton's interpreter, which runs one after the other.
INTERPRETED_PROGRAMS = 3


@dataclass(frozen=True)
class _Tile:
    """Tile sizes of one program, for windows up to a number of tokens.

    Attributes:
        tokens: The longest window.
        queries: Queries whose similarities are computed at once.
        keys: Keys to which they are computed at once, `tokens` if they stay in registers.
        rows: Queries that are searched at once, `queries` if they stay in registers.
        warps: Such that a thread keeps at most 128 similarities in its registers, of which there are 255.
    """

    tokens: int
    queries: int
    keys: int
    rows: int
    warps: int


TILES = (
    _Tile(64, 32, 64, 32, 4),
    _Tile(256, 32, 256, 32, 4),
    _Tile(1024, 32, 1024, 32, 8),
    _Tile(2048, 32, 512, 8, 8),
    _Tile(4096, 32, 512, 4, 8),
)


@dataclass(frozen=True)
class _Launch:
    """A kernel and its compile-time configuration."""

    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int
    num_stages: int


def _launches(tile: _Tile, dtype: torch.dtype, roomy: bool) -> tuple[_Launch, ...]:
    """Return what is launched one after the other: for fp32 windows in halves, then those that are whole."""
    if dtype == torch.float32:
        return _launch(tile, torch.float16, roomy, halves=True), _launch(tile, dtype, roomy)
    return (_launch(tile, dtype, roomy),)


def _launch(tile: _Tile, dtype: torch.dtype, roomy: bool, halves: bool = False) -> _Launch:
    signature = {"p_x": f"*{TYPES[dtype]}", "p_labels": "*i32", "p_packed": "*i32"}
    # Without tensor cores the operands of a product take registers too.
    queries = tile.queries // 2 if dtype == torch.float32 else tile.queries
    constexprs: dict[str, Any] = {"NP": tile.tokens, "BM": queries, "BC": CHANNELS, "HALVES": halves}
    integers = dict.fromkeys(("N", "C", "K", "R"), "i32")
    wide = halves or dtype == torch.float32
    if wide:
        signature["p_scale"] = "*fp32"
    else:
        constexprs["p_scale"] = None
    # A third tile of 32 bits where a program has a multiprocessor to itself; beside others it only takes registers.
    stages = 3 if not wide or (roomy and tile.tokens == ALONE) else 2
    if tile.keys == tile.tokens:
        return _Launch(key_semantics_kernel, signature | integers, constexprs, tile.warps, stages)
    signature |= {"p_scratch": "*fp32", **integers, "BLOCKS": "i32"}
    constexprs |= {"BN": tile.keys, "BR": tile.rows}
    return _Launch(key_semantics_long_kernel, signature, constexprs, tile.warps, stages)


def compilations() -> Iterator[tuple[Any, dict[str, str], dict[str, Any], int, int]]:
    """Yield every configuration that can be launched: kernel, signature, constexprs, warps and stages."""
    yield from triton_rows.compilations(tuple(tile.tokens for tile in TILES))
    for dtype in TYPES:
        for tile in TILES:
            for roomy in (True, False) if dtype == torch.float32 and tile.tokens == ALONE else (True,):
                for launch in _launches(tile, dtype, roomy):
                    yield launch.kernel, launch.signature, launch.constexprs, launch.num_warps, launch.num_stages


def _is_roomy(device: torch.device) -> bool:
    return device.type != "cuda" or _properties(device)["max_shared_mem"] >= ROOMY


def _programs(device: torch.device) -> int:
    return _properties(device)["multiprocessor_count"] if device.type == "cuda" else INTERPRETED_PROGRAMS


def _properties(device: torch.device) -> dict[str, int]:
    result: dict[str, int] = triton.runtime.driver.active.utils.get_device_properties(device.index)
    return result


def _labels(regions: Tensor | None, tokens: int, tile: _Tile, device: torch.device) -> Tensor:
    """Return (R, tile.tokens) int32: equal where the regions are, 0 or more for tokens and negative past them."""
    labels = torch.full((1 if regions is None else len(regions), tile.tokens), -1, dtype=torch.int32, device=device)
    if regions is None:
        labels[:, :tokens] = 0
        return labels
    ordered, order = regions.sort(-1)  # any integers: what does not fit into int32 is numbered anew
    changes = F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0))
    return labels.scatter_(1, order, changes.cumsum(-1, dtype=torch.int32))


def _run(x: Tensor, k: int, regions: Tensor | None) -> Tensor:
    b, n, _ = x.shape
    packed = torch.empty(b, n, -(-n // WORD), dtype=torch.int32, device=x.device)
    if not packed.numel():
        return packed
    if x.dtype == torch.bfloat16 and interpreted():
        x = x.float()  # the interpreter multiplies the bits of bf16 as if they were integers
    tile = next(tile for tile in TILES if n <= tile.tokens)
    labels = _labels(regions, n, tile, x.device)
    arguments: dict[str, Any] = {"p_labels": labels, "p_packed": packed, "N": n, "K": k, "R": len(labels)}
    with torch.cuda.device_of(x):
        rows = lay_out(x, tile.tokens)
        arguments |= {"C": rows.whole.shape[1], "p_scale": rows.scale}
        for each in _launches(tile, x.dtype, _is_roomy(x.device)):
            arguments["p_x"] = rows.halves if each.constexprs["HALVES"] else rows.whole
            blocks = b * triton.cdiv(n, each.constexprs["BM"])
            if each.kernel is key_semantics_long_kernel:
                arguments["BLOCKS"] = blocks
                blocks = min(blocks, _programs(x.device))
                scratch = (blocks, tile.queries, tile.tokens)
                arguments["p_scratch"] = torch.empty(scratch, dtype=torch.float32, device=x.device)
            options = {"num_warps": each.num_warps, "num_stages": each.num_stages}
            each.kernel[(blocks,)](**{**arguments, **each.constexprs, **options})
    return packed


@torch.library.custom_op("semanir_plugin::select_keys_packed", mutates_args=())
def _select_keys_packed(x: Tensor, k: int, regions: Tensor | None) -> Tensor:
    return _run(x, k, regions)


@_select_keys_packed.register_fake
def _(x: Tensor, k: int, regions: Tensor | None) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1], -(-x.shape[1] // WORD)), dtype=torch.int32)


def select_keys_packed(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> tuple[Tensor, Tensor]:
    """Return the packed mask, (B, N, ceil(N / 32)) int32, and a query order, (B, N) int32.

    Arguments as in `build_key_semantics`, x fp32, bf16 or fp16 and k <= N <= 4096; for the results see `KeySemantics`.
    """
    if not x.shape[2]:
        x = F.pad(x, (0, 1))  # of no features all are equal, as of a zero
    if cosine:
        x = F.normalize(x.float(), dim=-1)
    return _select_keys_packed(x, k, regions), order_queries(x, regions)
