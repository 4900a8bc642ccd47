"""Repairs of BasicSR's prefetching thread."""

from __future__ import annotations

from typing import Any

from basicsr.data.prefetch_dataloader import PrefetchGenerator

from semanir_plugin.basicsr_host.compat.repairs.table import Repair

__all__ = ["REPAIRS"]


def prefetch_all(self: Any) -> None:
    """`PrefetchGenerator.run` dies of what its loader raises, and whoever reads from it waits for ever."""
    try:
        for item in self.generator:
            self.queue.put(item)
        self.queue.put(None)
    except Exception as error:
        self.queue.put(error)


def next_prefetched(self: Any) -> Any:
    """`PrefetchGenerator.__next__` gives a failure out as a batch."""
    item = self.queue.get()
    if item is None:
        raise StopIteration
    if isinstance(item, Exception):
        raise item
    return item


REPAIRS: tuple[Repair, ...] = (
    (PrefetchGenerator, "run", prefetch_all),
    (PrefetchGenerator, "__next__", next_prefetched),
)
