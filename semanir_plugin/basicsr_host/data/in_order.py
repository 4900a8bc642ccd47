"""Map a function over items in several threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["in_order"]

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Apply a function in threads, not far ahead of what is taken; results come in order."""
    remaining = iter(items)
    pool = ThreadPoolExecutor(workers)
    try:
        running: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(remaining, 2 * workers))
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
