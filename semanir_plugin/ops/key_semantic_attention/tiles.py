"""Which tiles of queries and keys a dictionary fills, in an order of the tokens that leaves many of them empty."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from semanir_plugin.ops.key_semantic_attention.triton_kernels import count_kernel, list_kernel, pack_kernel
from semanir_plugin.ops.key_semantics import KeySemantics
from semanir_plugin.ops.key_semantics.packing import WORD

__all__ = ["Tiles", "tiles_of"]

# Rows of the packed mask that are counted at once.
COUNTED_ROWS = 32


class Tiles(NamedTuple):
    """The filled tiles of B windows, for tiles of S queries by S keys: T = ceil(N / S) each way.

    Attributes:
        order: (B, 2, T * S) int32, the tokens in the order of the queries and in that of the keys; N is padding. Keys
            that no query chose are padding too.
        bits: (B, T * S, T * S / 32) int32, the packed mask with rows and columns in these orders.
        lists: (B, 2, T, T) int32, the filled tiles of keys of each tile of queries, and the filled tiles of queries of
            each tile of keys; what lies behind `counts` is undefined.
        counts: (B, 2, T) int32, how many there are.
    """

    order: Tensor
    bits: Tensor
    lists: Tensor
    counts: Tensor


def tiles_of(semantics: KeySemantics, size: int) -> Tiles:
    """Return the tiles of a dictionary, S = `size`, a multiple of 32; found once for all layers that share it."""

    def make() -> Tiles:
        return Tiles(*find_tiles(semantics.packed(), semantics.query_order, size))

    return semantics.shared(("tiles", size), make)


@torch.library.custom_op("semanir_plugin::key_semantic_tiles", mutates_args=())
def find_tiles(packed: Tensor, query_order: Tensor | None, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of `Tiles` for a (B, N, ceil(N / 32)) packed mask and an order as `KeySemantics` has them."""
    b, n, words = packed.shape
    order, bits, lists, counts = _empty_tiles(packed, query_order, size)
    tiles = counts.shape[-1]
    filled = torch.empty(b, tiles, tiles, dtype=torch.int32, device=packed.device)
    chosen = torch.empty(b, n, dtype=torch.int32, device=packed.device)
    with torch.cuda.device_of(packed):
        count_kernel[(b * words,)](packed, chosen, n, words, ROWS=COUNTED_ROWS)
        order[:, 0] = _query_order(packed, query_order, size)
        order[:, 1] = _key_order(chosen, size)
        pack_kernel[(b * tiles * tiles,)](packed, order, bits, filled, n, words, tiles, SIZE=size)
        list_kernel[(b * 2 * tiles,)](filled, lists, counts, tiles, BLOCK=triton.next_power_of_2(tiles))
    return order, bits, lists, counts


@find_tiles.register_fake
def _empty_tiles(packed: Tensor, query_order: Tensor | None, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, n, _ = packed.shape
    tiles = -(-n // size)
    shapes = ((b, 2, tiles * size), (b, tiles * size, tiles * size // WORD), (b, 2, tiles, tiles), (b, 2, tiles))
    order, bits, lists, counts = (torch.empty(shape, dtype=torch.int32, device=packed.device) for shape in shapes)
    return order, bits, lists, counts


def _query_order(packed: Tensor, query_order: Tensor | None, size: int) -> Tensor:
    b, n, _ = packed.shape
    if query_order is None:
        query_order = torch.arange(n, dtype=torch.int32, device=packed.device).expand(b, n)
    return _sorted_in_tiles(query_order, n, size)


def _key_order(chosen: Tensor, size: int) -> Tensor:
    # Keys that many queries chose fill the first tiles, and leave the last ones to few queries, or to none.
    order = chosen.argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    n = chosen.shape[-1]
    # Keys that nobody chose are never loaded: whatever they hold, it reaches no query.
    return _sorted_in_tiles(order.masked_fill(chosen.gather(-1, order.long()) == 0, n), n, size)


def _sorted_in_tiles(order: Tensor, n: int, size: int) -> Tensor:
    # Within a tile any order will do: neighbours side by side share cache lines.
    tiles = F.pad(order, (0, -n % size), value=n).unflatten(-1, (-1, size))
    return tiles.sort(-1).values.flatten(1)
