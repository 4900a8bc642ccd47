"""The dictionary in one kernel: similarities and selection on the chip, a bit per pair written.

Against a matrix of similarities that is written, searched and compared in device memory, this moves the features and
N * N / 8 bytes per window. A block of queries against a window of 1024 keys fills a multiprocessor's registers, so up
to there nothing else is stored. Longer rows would have to be computed again for each of the up to 32 passes of the
search; they go to a scratch instead, of one block per program of a grid that just fills the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from semanir_plugin.ops.common.triton_support import TYPES
from semanir_plugin.ops.key_semantics.packing import WORD
from semanir_plugin.ops.key_semantics.query_order import order_queries
from semanir_plugin.ops.key_semantics.triton_kernels import key_semantics_kernel, key_semantics_long_kernel

__all__ = ["compilations", "select_keys_packed"]

# Channels per step of a product, the fewest that Triton takes.
CHANNELS = 16
# Bytes of shared memory per block from which a second tile of fp32 keys can load while the first is used.
ROOMY = 136 << 10
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
    constexprs: dict[str, int]
    num_warps: int
    num_stages: int


def _launch(tile: _Tile, dtype: torch.dtype, roomy: bool) -> _Launch:
    signature = {"p_x": f"*{TYPES[dtype]}", "p_labels": "*i32", "p_packed": "*i32"}
    constexprs = {"NP": tile.tokens, "BM": tile.queries, "BC": CHANNELS}
    integers = dict.fromkeys(("N", "C", "K", "R"), "i32")
    stages = 2 if dtype == torch.float32 and not roomy else 3
    if tile.keys == tile.tokens:
        return _Launch(key_semantics_kernel, signature | integers, constexprs, tile.warps, stages)
    signature |= {"p_scratch": "*i32", **integers, "BLOCKS": "i32"}
    constexprs |= {"BN": tile.keys, "BR": tile.rows}
    return _Launch(key_semantics_long_kernel, signature, constexprs, tile.warps, stages)


def compilations() -> Iterator[tuple[Any, dict[str, str], dict[str, int], int, int]]:
    """Yield every configuration that can be launched: kernel, signature, constexprs, warps and stages."""
    for dtype in TYPES:
        for tile in TILES:
            for roomy in (True, False) if dtype == torch.float32 else (True,):
                launch = _launch(tile, dtype, roomy)
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
    b, n, c = x.shape
    packed = torch.empty(b, n, -(-n // WORD), dtype=torch.int32, device=x.device)
    if not packed.numel():
        return packed
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        x = x.float()  # Triton's interpreter multiplies the bits of bf16 as if they were integers
    tile = next(tile for tile in TILES if n <= tile.tokens)
    launch = _launch(tile, x.dtype, _is_roomy(x.device))
    # One row per channel, padded with zeros to whole tiles: every load is aligned and needs no mask.
    rows = x.new_zeros(b, -(-c // CHANNELS) * CHANNELS, tile.tokens)
    rows[:, :c, :n] = x.mT
    labels = _labels(regions, n, tile, x.device)
    blocks = b * -(-n // tile.queries)
    arguments: dict[str, Any] = {"p_x": rows, "p_labels": labels, "p_packed": packed}
    arguments |= {"N": n, "C": rows.shape[1], "K": k, "R": len(labels)}
    if launch.kernel is key_semantics_long_kernel:
        arguments["BLOCKS"] = blocks
        blocks = min(blocks, _programs(x.device))
        arguments["p_scratch"] = torch.empty(blocks, tile.queries, tile.tokens, dtype=torch.int32, device=x.device)
    with torch.cuda.device_of(x):
        launch.kernel[(blocks,)](
            **arguments, **launch.constexprs, num_warps=launch.num_warps, num_stages=launch.num_stages
        )
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
    if cosine:
        x = F.normalize(x.float(), dim=-1)
    return _select_keys_packed(x, k, regions), order_queries(x, regions)
