"""Cache of values computed from a module's parameters alone, kept while the parameters stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semanir_plugin.ops.common.eager import values_may_decide

__all__ = ["InferenceCache"]


@dataclass(frozen=True)
class _Entry:
    sources: tuple[Tensor, ...]
    result: Tensor


class InferenceCache:
    """The last result of a computation, valid for the very values it was made of.

    Values are compared, and not PyTorch's version counters: `parameter.data.mul_(...)`, as averages of weights are
    updated, leaves those as they are. So no way of changing parameters is missed. On a GPU a comparison would have to
    wait for the device; there, and wherever gradients are wanted or the call is traced, everything is computed.

    Copies and pickles of a cache are empty.
    """

    def __init__(self) -> None:
        self._entry: _Entry | None = None

    def get(self, sources: Sequence[Tensor], compute: Callable[[], Tensor]) -> Tensor:
        """Return `compute()`, from the cache while `sources`, all tensors that it reads, keep their values.

        Nobody may write to the result.
        """
        if torch.is_grad_enabled() or not values_may_decide(sources):
            return compute()
        entry = self._entry  # once: other threads may replace it
        if entry is None or not _equal(entry.sources, sources):
            entry = _Entry(tuple(source.clone() for source in sources), compute())
            self._entry = entry
        return entry.result

    def __reduce__(self) -> tuple[type[InferenceCache], tuple[()]]:
        return InferenceCache, ()


def _equal(kept: Sequence[Tensor], sources: Sequence[Tensor]) -> bool:
    return len(kept) == len(sources) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b) for a, b in zip(kept, sources, strict=True)
    )
