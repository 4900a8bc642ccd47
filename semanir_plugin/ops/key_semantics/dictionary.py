"""The result of `build_key_semantics` and the forms in which it can be read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.key_semantics.packing import pack, unpack

__all__ = ["KeySemantics"]


class KeySemantics:
    """The keys that each query of a window attends to.

    Made from whichever form the builder has; the others are derived when first asked for, and kept, because all layers
    of a stage share the dictionary.

    Args:
        k: Keys per query, 1 <= k <= N. Rows have fewer where their region has fewer tokens.
        mask: (B, N, N) bool, True where query i keeps key j; at least one key and at most `k` in each row.
        packed: (B, N, ceil(N / 32)) int32, the mask at a bit per pair, see `packing`. One of `mask` and `packed`.
        query_order: (B, N) int32, a permutation of each window's tokens that puts queries with like keys side by side:
            a hint for kernels that take queries in groups. None: the order of the tokens.
    """

    def __init__(
        self,
        k: int,
        *,
        mask: Tensor | None = None,
        packed: Tensor | None = None,
        query_order: Tensor | None = None,
    ) -> None:
        given = packed if mask is None else mask
        if given is None:
            raise ValueError("a dictionary is made from a mask or from a packed mask, got neither")
        self.k = k
        self.query_order = query_order
        self._batch, self._tokens = given.shape[:2]
        self._device = given.device
        self._mask = mask
        self._packed = packed
        self._shared: dict[Hashable, Any] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, N, k)."""
        return (self._batch, self._tokens, self.k)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self._device

    def mask(self) -> Tensor:
        """Return the (B, N, N) bool mask, True where a query keeps a key."""
        if self._mask is None:
            packed = self._packed
            assert packed is not None
            self._mask = self._derive(lambda: unpack(packed, self._tokens))
        return self._mask

    def packed(self) -> Tensor:
        """Return the mask at a bit per pair, (B, N, ceil(N / 32)) int32."""
        if self._packed is None:
            self._packed = self._derive(lambda: pack(self.mask()))
        return self._packed

    def additive_mask(self, dtype: torch.dtype) -> Tensor:
        """Return (B, N, N): 0 where a query keeps a key, -inf elsewhere."""

        def make() -> Tensor:
            kept, left_out = (torch.full((), value, dtype=dtype, device=self.device) for value in (0.0, -torch.inf))
            return torch.where(self.mask(), kept, left_out)

        out: Tensor = self.shared(("additive_mask", dtype), make)
        return out

    def counts(self) -> Tensor:
        """Return (B, N) int64, the number of keys of each query."""
        return self.mask().sum(-1)

    def indices(self) -> Tensor:
        """Return (B, N, k) int64 key indices in ascending order, all in [0, N).

        A row with fewer than k keys repeats its first key at the end; `counts` tells how many are real.
        """
        mask = self.mask()
        n = mask.shape[-1]
        # Positions of kept keys stay, the others sort behind them.
        positions = torch.arange(n, device=self.device).expand_as(mask)
        ordered = positions.masked_fill(~mask, n).sort(-1).values[..., : self.k]
        return torch.where(ordered < n, ordered, ordered[..., :1])

    def shared(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value cached under `name`, made by `make` on first use: derived once for all layers."""
        if name not in self._shared:
            self._shared[name] = self._derive(make)
        return self._shared[name]

    def _derive(self, make: Callable[[], Any]) -> Any:
        """Return what `make` does: tensors that can be trained with, if the dictionary's own can."""
        given = self._packed if self._mask is None else self._mask
        assert given is not None
        if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled() or given.is_inference():
            return make()
        with torch.inference_mode(False):
            return make()

    def __repr__(self) -> str:
        return f"KeySemantics(B={self.shape[0]}, N={self.shape[1]}, k={self.k}, device={self.device})"
