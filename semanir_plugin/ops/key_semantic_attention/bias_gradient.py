"""Split the gradient of a bias into tiles of pairs of tokens, and join them again."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["BiasTiles"]


@dataclass(frozen=True)
class BiasTiles:
    """Tiles of `size` queries by `size` keys, each `rows` x `columns` tokens of a window or, for a dense bias, a row.

    Attributes:
        side: Of the window; 0: the bias is dense.
        size: At least rows * columns, a power of two.
        rows: Of the patch of tokens that is a tile.
        columns: Likewise.
    """

    side: int
    size: int
    rows: int
    columns: int

    @classmethod
    def of(cls, side: int, size: int) -> BiasTiles:
        """Return the tiles for windows of a side."""
        columns = min(side, size) if side else size
        return cls(side, size, min(side, size // columns) if side else 1, columns)

    def constants(self) -> dict[str, int]:
        """Return the kernel's compile-time constants for these tiles."""
        return {"BM": self.size, "ROWS": self.rows, "COLUMNS": self.columns}

    def down(self, n: int) -> int:
        """Return the number of tiles down a window of n tokens."""
        return -(-self.side // self.rows) if self.side else -(-n // self.size)

    @property
    def across(self) -> int:
        """The number of tiles side by side in a window."""
        return -(-self.side // self.columns)

    def tasks(self, n: int) -> int:
        """Return the number of pairs of tiles that have entries of their own."""
        return (2 * self.down(n) - 1) * self.across**2 if self.side else self.down(n) ** 2

    def join(self, x: Tensor, n: int) -> Tensor:
        """Sum tiles by entry of the bias: (H, tasks, S, S) to (H, N, N) or (H, 2 * side - 1, 2 * side - 1)."""
        tiles = self.down(n)
        if self.side:
            return self._join_table(x.unflatten(1, (2 * tiles - 1, self.across, self.across)))
        x = x.unflatten(1, (tiles, tiles))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :n, :n]

    def _join_table(self, x: Tensor) -> Tensor:
        """Sum (H, 2T - 1, A, A, S, S): by distance in tiles, and by the tiles across the window, of query and key."""
        side, rows, columns = self.side, self.rows, self.columns
        x = x[..., : rows * columns, : rows * columns]
        x = x.unflatten(-1, (rows, columns)).unflatten(-3, (rows, columns))
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
    out: Tensor = x.unflatten(-1, (w, 2 * w - 1)).sum(-2)
    return out
