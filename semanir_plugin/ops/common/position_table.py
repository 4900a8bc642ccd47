"""Relative-position tables: the bias of a pair of tokens depends on where they stand relative to each other."""

from __future__ import annotations

import torch
from torch import Tensor

from semanir_plugin.ops.common.portable import only_standard_operators, undecided

__all__ = ["check_bias", "dense_bias", "is_table", "table_side"]


LARGEST_KEPT = 1 << 20
"""Elements of a dense bias that programs may make of a table as they load, and keep: each layer has its own."""


def is_table(bias: Tensor, tokens: int) -> bool:
    """Tell whether a (H, 2w - 1, 2w - 1) table was given rather than a dense (H, N, N) bias."""
    w = table_side(bias)
    return w * w == tokens and bias.shape[1:] == (2 * w - 1, 2 * w - 1)


def table_side(table: Tensor) -> int:
    """Return the side w of the windows that a (H, 2w - 1, 2w - 1) table is for."""
    return (table.shape[1] + 1) // 2


def check_bias(bias: Tensor, heads: int, tokens: int) -> None:
    """Raise a ValueError unless `bias` is floating and dense, (H, N, N), or a table, (H, 2w - 1, 2w - 1)."""
    if not bias.is_floating_point():
        raise ValueError(f"bias must be floating, got {bias.dtype}")
    if bias.ndim == 3 and len(bias) == heads and (bias.shape[1:] == (tokens, tokens) or is_table(bias, tokens)):
        return
    w = round(tokens**0.5)
    table = f" or (H, 2w - 1, 2w - 1) = {(heads, 2 * w - 1, 2 * w - 1)}" if w * w == tokens else ""
    raise ValueError(f"bias must have shape (H, N, N) = {(heads, tokens, tokens)}{table}, got {tuple(bias.shape)}")


def dense_bias(bias: Tensor, tokens: int, windows: int = 1) -> Tensor:
    """Return the (H, N, N) bias, query first; a dense one unchanged.

    Query (y, x) and key (y', x') of a window, row by row, have table[h, y - y' + w - 1, x - x' + w - 1].

    Args:
        bias: Dense, or a table.
        tokens: N.
        windows: How many windows it is for; while a network is exported, a symbol.
    """
    if not is_table(bias, tokens):
        return bias
    w = table_side(bias)
    if only_standard_operators():
        return _gathered(bias, w, windows)
    # The table's w x w patch at (y, x), read backwards: views and one copy, instead of gathering N * N by index.
    patches = bias.unfold(1, w, 1).unfold(2, w, 1)  # (H, y, x, w - 1 - y', w - 1 - x')
    return patches.flip(3, 4).reshape(-1, tokens, tokens)


def _gathered(table: Tensor, w: int, windows: int) -> Tensor:
    """Return the (H, w * w, w * w) bias by two lookups of short lists, which every program knows."""
    places = torch.arange(w, device=table.device)
    offsets = (places[:, None] - places + w - 1).flatten()  # (w * w,) of pairs of rows, and of columns
    if len(table) * w**4 > LARGEST_KEPT:
        offsets = undecided(offsets, windows)
    pairs = table.index_select(1, offsets).index_select(2, offsets)  # (H, (y, y'), (x, x'))
    return pairs.view(-1, w, w, w, w).transpose(2, 3).reshape(-1, w * w, w * w)
