"""Worker processes of a loader: a death is noticed at once, and nobody waits for what a dead one held.

A process that SIGKILL ends leaves locks locked and messages broken off: of the queue that all workers answer by, of its
own queue, of the event that ends them. torch looks for deaths between waits, in some of which it may be held for ever.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

__all__ = ["LoaderWorkers"]

SETTLING = 1.0
"""Seconds from an error that a death brings about to the notice of the death, and to its exit code."""


class LoaderWorkers(BaseContext):
    """Context that a loader makes its processes, queues and event by; so all of them are known.

    Once a worker has died, all others are killed, for they may wait for a lock that it held; and whoever reads what
    they sent meets its end instead of waiting for the rest of a message.
    """

    def __init__(self) -> None:
        self._actual = multiprocessing.get_context()
        self._workers: list[BaseProcess] = []
        self._queues: list[_Queue] = []
        self._died: list[BaseProcess] = []
        self._watched = False
        self._ended = threading.Event()

    @classmethod
    def of(cls, loader: DataLoader[Any]) -> LoaderWorkers:
        """Return the workers that the next iterator of a loader will start; none where it has none."""
        workers = cls()
        if loader.num_workers > 0:
            loader.multiprocessing_context = workers
        return workers

    def watch(self) -> None:
        """Notice deaths from now on, in a thread that ends with the workers."""
        self._watched = True
        threading.Thread(target=self._watch, daemon=True, name="loader_deaths").start()

    def end(self) -> str:
        """End all workers after an error; return the causes of death of those that had died, or an empty string."""
        if not self._watched:
            self.watch()  # one died before all were started
        ended = self._ended.wait(SETTLING)
        died = [f"worker {worker.pid} of the loader died with exit code {worker.exitcode}" for worker in self._died]
        if not ended:
            self._kill()
        return ", ".join(died)

    def get_context(self, method: str | None = None) -> Any:
        """Return the context that this one stands before, in which locks and processes are made."""
        return self._actual

    def Process(self, *args: Any, **options: Any) -> BaseProcess:  # noqa: N802  # the name in any context
        """Make a worker."""
        worker: BaseProcess = self._actual.Process(*args, **options)
        self._workers.append(worker)
        return worker

    def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """Make a queue."""
        self._queues.append(_Queue(maxsize, ctx=self._actual))
        return self._queues[-1]

    def Event(self) -> Any:  # noqa: N802
        """Make an event of what loaders use of one."""
        return _Event()

    def _watch(self) -> None:
        living = {worker.sentinel: worker for worker in self._started()}
        while living and not self._died:
            ended = [living.pop(sentinel) for sentinel in wait(list(living)) if isinstance(sentinel, int)]
            self._died += [worker for worker in ended if _exit_code(worker) != 0]
        if self._died:
            self._kill()
            for queue in self._queues:
                queue.break_off()
        self._ended.set()

    def _kill(self) -> None:
        for worker in self._started():
            worker.kill()  # all ignore SIGTERM
            worker.join()

    def _started(self) -> list[BaseProcess]:
        return [worker for worker in self._workers if worker.pid is not None]


def _exit_code(worker: BaseProcess) -> int | None:
    """Return the exit code of an ended process, for which another thread may have asked the system a moment ago."""
    until = time.monotonic() + SETTLING
    while worker.exitcode is None and time.monotonic() < until:
        time.sleep(0.001)
    return worker.exitcode


class _Event:
    """An event without a lock, set once: is_set of multiprocessing's takes one, in each worker for each batch."""

    def __init__(self) -> None:
        self._flag = multiprocessing.RawValue("b", 0)

    def is_set(self) -> bool:
        return bool(self._flag.value)

    def set(self) -> None:
        self._flag.value = 1


class _Queue(Queue):
    """A queue that can be broken off where nothing is put into it from this side, and that loses nothing."""

    _broken_off = False

    def break_off(self) -> None:
        """Close this side's end for writing: when all other processes are gone, readers meet the end."""
        if self._thread is None:  # type: ignore[attr-defined]  # which feeds it
            self._broken_off = True
            self._writer.close()  # type: ignore[attr-defined]

    def _on_queue_feeder_error(self, error: Exception, obj: Any) -> None:
        """Hand over the error in place of a batch: multiprocessing drops the batch, and its reader waits for ever."""
        if isinstance(obj, tuple):
            self.put((obj[0], ExceptionWrapper(where="as a worker of the loader handed over a batch")))

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an object into the queue, or nothing where it is broken off."""
        if not self._broken_off:
            super().put(obj, block, timeout)
