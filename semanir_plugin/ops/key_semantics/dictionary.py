"""The result of `build_key_semantics` and the forms in which it can be read."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["KeySemantics"]


class KeySemantics:
    """Which keys each query of a window attends to.

    Args:
        mask: (B, N, N) bool, True where query i keeps key j; at least one key and at most `k` in each row.
        k: Keys per query, 1 <= k <= N. Rows have fewer where their region has fewer tokens.
    """

    def __init__(self, mask: Tensor, k: int) -> None:
        self._mask = mask
        self._additive: Tensor | None = None
        self.k = k

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, N, k)."""
        return (self._mask.shape[0], self._mask.shape[1], self.k)

    @property
    def device(self) -> torch.device:
        """Where the dictionary lives."""
        return self._mask.device

    def mask(self) -> Tensor:
        """Return the (B, N, N) bool mask, True where a query keeps a key."""
        return self._mask

    def additive_mask(self, dtype: torch.dtype) -> Tensor:
        """Return (B, N, N): 0 where a query keeps a key, -inf elsewhere; made once for all layers that share it."""
        if self._additive is None or self._additive.dtype != dtype:
            zeros = torch.zeros(self._mask.shape, dtype=dtype, device=self.device)
            self._additive = zeros.masked_fill_(~self._mask, -torch.inf)
        return self._additive

    def counts(self) -> Tensor:
        """Return (B, N) int64, the number of keys of each query."""
        return self._mask.sum(-1)

    def indices(self) -> Tensor:
        """Return (B, N, k) int64 key indices in ascending order, all in [0, N).

        A row with fewer than k keys repeats its first key at the end; `counts` tells how many are real.
        """
        n = self._mask.shape[-1]
        # Positions of kept keys stay, the others sort behind them.
        positions = torch.arange(n, device=self.device).expand_as(self._mask)
        ordered = positions.masked_fill(~self._mask, n).sort(-1).values[..., : self.k]
        return torch.where(ordered < n, ordered, ordered[..., :1])

    def __repr__(self) -> str:
        return f"KeySemantics(B={self.shape[0]}, N={self.shape[1]}, k={self.k}, device={self.device})"
