"""Processes that try cases one after another, and are replaced where one hangs or dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

__all__ = ["Report", "run_cases"]

MEMORY = 12 * 2**30
"""Bytes of addresses that a process may have: more is a MemoryError there, rather than the end of the machine."""


@dataclass(frozen=True)
class Report:
    """What came of a case.

    Attributes:
        case: Its number.
        seconds: It took.
        problem: What no command may do; None where it did nothing of the kind.
        refused: Whether what was read was refused.
        folder: Where the files are that did it; None where there is no problem.
    """

    case: int
    seconds: float
    problem: str | None
    refused: bool = False
    folder: Path | None = None


Try = Callable[[int], tuple[str | None, bool]]
"""Tries a case in the working directory, which is empty; returns what is wrong, and whether a command refused."""


@dataclass
class Worker:
    """A process that tries cases in a folder of its own, and the case it is at."""

    attempt: Try
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="mutation_test_")))
    case: int = -1
    since: float = 0.0

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("fork")  # with all that the parent has imported
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.attempt, self.folder))
        self.process.start()
        theirs.close()
        with contextlib.suppress(OSError):  # which it does itself, but perhaps not before it is to be killed
            os.setpgid(self.process.pid or 0, self.process.pid or 0)

    def give(self, case: int) -> None:
        """Have a case tried."""
        self.case, self.since = case, time.monotonic()
        self.connection.send(case)

    def report(self) -> Report:
        """Return what came of the case; raises EOFError where the process has died."""
        problem, refused = self.connection.recv()
        return self._report(problem, refused)

    def end(self, why: str = "") -> Report:
        """Kill the process and what it started; return that as what came of the case."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()
        with contextlib.suppress(OSError):  # where files stay
            self.folder.rmdir()
        return self._report(why or f"crash: the process ended with exit code {self.process.exitcode}", False)

    def _report(self, problem: str | None, refused: bool) -> Report:
        folder = self.folder / str(self.case) if problem else None
        return Report(self.case, time.monotonic() - self.since, problem, refused, folder)


def run_cases(attempt: Try, cases: Sequence[int], count: int, seconds: float) -> Iterator[Report]:
    """Try cases in so many processes; yield what came of each, as they end.

    Args:
        attempt: Tries one.
        cases: Their numbers.
        count: Of processes.
        seconds: That a case may take.
    """
    left, workers = list(reversed(cases)), [Worker(attempt) for _ in range(min(count, len(cases)))]
    for worker in workers:
        worker.give(left.pop())
    while workers:
        ready = wait([worker.connection for worker in workers], timeout=0.5)
        for worker in list(workers):
            late = time.monotonic() - worker.since > seconds
            if worker.connection not in ready and not late:
                continue
            workers.remove(worker)
            try:
                report = worker.report() if worker.connection in ready else worker.end(f"hang: more than {seconds:g} s")
            except EOFError:
                report = worker.end()
            yield report
            if left:
                worker = worker if worker.process.is_alive() else Worker(attempt)
                worker.give(left.pop())
                workers.append(worker)
            else:
                worker.end()


def serve(connection: Connection, attempt: Try, folder: Path) -> None:
    """Try the cases that come through a connection, each in a folder that stays if it found something."""
    os.setpgrp()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where decoders of images write what they think
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while True:
        case = connection.recv()
        place = folder / str(case)
        place.mkdir()
        around = sorted(os.listdir(folder))
        os.chdir(place)
        found = attempt(case)
        os.chdir(folder)
        if sorted(os.listdir(folder)) != around:
            found = f"writing outside the working directory: {os.listdir(folder)}", found[1]
        if not found[0]:
            shutil.rmtree(place)
        connection.send(found)
