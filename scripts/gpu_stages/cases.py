"""Run the cases of a stage one after the other: one that fails, crashes or hangs is a row, and the next one starts."""

from __future__ import annotations

import faulthandler
import gc
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from gpu_stages.journal import Journal, Row

__all__ = ["Case", "run_cases", "warm_up"]

LOST_DEVICE = 3  # exit code of a process that can use its GPU no more
STDERR = 2  # of the process


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        name: Unique in its stage.
        measure: Yields rows, each written when it is yielded.
        seconds: After which the case is given up.
        compiles: Whether it is worth running beforehand for what it compiles.
    """

    name: str
    measure: Callable[[], Iterator[Row]]
    seconds: float = 60
    compiles: bool = False


def run_cases(cases: Iterable[Case], journal: Journal) -> None:
    """Measure the cases that the journal has not settled, in the given order.

    Ends the process where it hangs, or has lost its GPU: called again in another one, it goes on behind that case.
    """
    settled = journal.settled()
    for case in cases:
        if case.name in settled:
            continue
        journal.running = case.name
        faulthandler.dump_traceback_later(case.seconds, exit=True, file=STDERR)
        try:
            _run(case, journal)
        finally:
            faulthandler.cancel_dump_traceback_later()
        journal.running = None


def warm_up(cases: Iterable[Case], index: int, count: int) -> None:
    """Run a share of the cases that compile, and drop the results: errors are reported when they are measured."""
    for case in islice((case for case in cases if case.compiles), index, None, count):
        with suppress(Exception):
            deque(case.measure(), maxlen=0)
        _free()


def _run(case: Case, journal: Journal) -> None:
    start = time.monotonic()
    try:
        for row in case.measure():
            journal.write(case=case.name, **row)
        journal.write(case=case.name, seconds=round(time.monotonic() - start, 2))
    except Exception as error:
        from semanir_plugin.errors import one_line

        journal.write(case=case.name, error=one_line(error)[:500])
        if "CUDA error" in str(error):  # whatever is asked of the device now fails alike
            sys.exit(LOST_DEVICE)
    _free()


def _free() -> None:
    if torch := sys.modules.get("torch"):
        gc.collect()
        torch.cuda.empty_cache()  # does nothing where there is no GPU
