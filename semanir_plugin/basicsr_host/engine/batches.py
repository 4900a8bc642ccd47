"""Batches of a loader whose workers may die."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher
from torch.utils.data import DataLoader

from semanir_plugin.basicsr_host.engine.loader_errors import ENLARGE, explain_loader_error
from semanir_plugin.basicsr_host.engine.loader_workers import LoaderWorkers
from semanir_plugin.errors import UserError

__all__ = ["Batches"]

# Deaths, and the iterations within which so many are too many.
MOST, WITHIN = 5, 1000


class Batches:
    """Reader of loaders that replaces workers that died, for instance killed for want of memory.

    As batches depend on their position alone, the same ones follow as if none had died.

    Args:
        opt: Options of the run.
        logger: Logger for deaths of workers.
    """

    def __init__(self, opt: dict[str, Any], logger: logging.Logger) -> None:
        self.opt = opt
        self.logger = logger
        self.deaths: list[int] = []

    def read(self, loader: DataLoader[Any], done: int, reopen: Callable[[int], DataLoader[Any]]) -> Iterator[Any]:
        """Yield the batches of a loader.

        Args:
            loader: Gives a batch for each iteration from `done` on.
            done: Iterations that are done.
            reopen: Gives such a loader for another number of iterations that are done.

        Raises:
            UserError: The death of workers is the `MOST`-th within `WITHIN` iterations; they cannot hand over batches.
        """
        while True:
            try:
                for batch in _fetch(loader, self.opt):
                    yield batch
                    done += 1
                return
            except _DeadWorkersError as error:
                death = str(error)
            self._count(done, death)
            loader = reopen(done)

    def _count(self, done: int, death: str) -> None:
        self.deaths = [each for each in self.deaths if done - each < WITHIN] + [done]
        if len(self.deaths) >= MOST:
            raise UserError(
                f"workers of loaders died {MOST} times within {WITHIN:,} iterations (the last: {death}); if memory is "
                f"short, lower datasets.train.num_worker_per_gpu; if /dev/shm is (exit code -7), enlarge it: {ENLARGE}"
            )
        self.logger.warning(f"Iteration {done + 1:,}: {death}; new workers go on from here.")


class _DeadWorkersError(Exception):
    pass


def _fetch(loader: Any, opt: dict[str, Any]) -> Iterator[Any]:
    workers = LoaderWorkers.of(loader)
    try:
        # BasicSR's prefetchers are reset for each epoch; here there is one.
        on_cuda = opt["datasets"]["train"].get("prefetch_mode") == "cuda" and opt["num_gpu"] > 0
        batches = CUDAPrefetcher(loader, opt) if on_cuda else CPUPrefetcher(loader)
        with _deaths_found_when_reading():
            workers.watch()
            while (batch := batches.next()) is not None:
                yield batch
    except (RuntimeError, OSError, EOFError) as error:  # the latter of a worker that dies as it hands over a batch
        with _deaths_found_when_reading():
            died = workers.end()
        if died:
            raise _DeadWorkersError(died) from error
        if (explained := explain_loader_error(error)) is not None:
            raise explained from error
        raise


@contextmanager
def _deaths_found_when_reading() -> Iterator[None]:
    """Have loaders tell of dead workers when a batch is due: torch's handler of SIGCHLD raises within a step, too."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous or signal.SIG_DFL)
