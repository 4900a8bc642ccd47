"""Stopping on SIGTERM and SIGINT: a request to save and stop, seen by all processes after the same iteration."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from semanir_plugin.basicsr_host.engine.distributed import TIMEOUT

__all__ = ["StopSignals", "ignoring_stop_signals"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Seconds within which a signal counts once: a launcher passes on what the processes under it got themselves.
ECHO = 1.0


class StopSignals:
    """Within its block the first signal is a request, and a second one ends the process as it would without handlers.

    A signal that the process was started to ignore stays ignored.

    Args:
        distributed: Whether other processes take part, which then stop as soon as one is told to.
        timeout: How long to wait for them.
    """

    def __init__(self, *, distributed: bool = False, timeout: timedelta = TIMEOUT) -> None:
        self._asked_at: float | None = None
        self._previous: dict[int, Any] = {}
        # On the CPU, so that asking does not wait for a GPU.
        self._group = dist.new_group(backend="gloo", timeout=timeout) if distributed else None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            taken = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._previous = {number: signal.signal(number, self._on_signal) for number in taken}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Return whether any process of the run was told to stop; a collective call: all processes must make it."""
        told = self._asked_at is not None
        if self._group is None:
            return told
        flag = torch.tensor(int(told))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flag.item())

    def wait_for_all(self) -> None:
        """Wait until all processes are here: a launcher ends the others as soon as one of them does."""
        if self._group is not None:
            dist.barrier(group=self._group)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            text = "finishing the iteration and saving; another signal ends the run at once"
            os.write(2, f"{signal.Signals(number).name}: {text}\n".encode())  # print is not safe in a handler
        elif now - self._asked_at > ECHO:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)


def ignoring_stop_signals(init: Callable[[int], None] | None) -> Callable[[int], None]:
    """Return a `worker_init_fn` for loaders: `init`, in workers that outlast a signal to all processes of a job."""
    return partial(_start_worker, init)


def _start_worker(init: Callable[[int], None] | None, worker_id: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if init is not None:
        init(worker_id)
