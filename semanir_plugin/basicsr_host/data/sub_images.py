"""Cutting images into sub-images, so that training decodes little more than it uses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

__all__ = ["SubImages"]


@dataclass(frozen=True, kw_only=True)
class SubImages:
    """A grid of squares over an image; what is smaller than a square is taken as it is.

    Attributes:
        side: Of the squares.
        step: From one to the next; below `side` they overlap.
        threshold: Where more than this is left at the end of a row or column, one more square covers it, which overlaps
            its neighbour.
    """

    side: int
    step: int
    threshold: int = 0

    def corners(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (top, left) of each, row by row."""
        return list(product(self._starts(height), self._starts(width)))

    def _starts(self, size: int) -> list[int]:
        starts = list(range(0, max(size - self.side, 0) + 1, self.step))
        last = size - self.side
        return [*starts, last] if last - starts[-1] > self.threshold else starts
