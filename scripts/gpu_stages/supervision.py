"""Run stages as processes that are killed at their limits, so that none takes the time of the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import ROOT

from gpu_stages.journal import Journal

__all__ = ["STAGES", "Stage", "run_stages"]

COMMAND = (sys.executable, "-m", "gpu_stages")
STARTING = 5.0
"""Seconds under which no process is started."""


WARMING = 75.0
"""Seconds from their start after which warm-ups are ended."""


@dataclass(frozen=True)
class Stage:
    """A part of the check.

    Attributes:
        name: Its module in this package.
        share: Of the time that is left for it and the stages behind it, in proportion to theirs.
        timed: Whether its results are times, so that nothing else may run beside it.
        warm_ups: Processes among which those of its cases are divided that others compile for while a stage runs that
            is not timed.
    """

    name: str
    share: float
    timed: bool = True
    warm_ups: int = 0


STAGES = (
    Stage("correctness", 2, timed=False, warm_ups=2),
    Stage("kernels", 3, warm_ups=6),
    Stage("steps", 3, warm_ups=6),
    Stage("training", 3),
    Stage("tests", 3),
)


def run_stages(
    stages: Sequence[Stage], seconds: float, folder: Path, options: Sequence[str], *, warm: bool = True
) -> int:
    """Run stages one after the other and print how each ended; return the number that were cut short or had errors.

    What a stage does not use of its time passes on to the next.

    Args:
        stages: Which.
        seconds: For all of them.
        folder: Of the results.
        options: Of the stages' processes.
        warm: Whether idle cores compile for later stages beside one that is not timed.
    """
    deadline, bad = time.monotonic() + seconds, 0
    for index, stage in enumerate(stages):
        left = deadline - time.monotonic()
        limit = left * stage.share / sum(each.share for each in stages[index:])
        with _warming(() if stage.timed or not warm else stages[index:], folder, options):
            bad += not _run_stage(stage, limit, folder, options)
    return bad


@contextmanager
def _warming(stages: Sequence[Stage], folder: Path, options: Sequence[str]) -> Iterator[None]:
    """Have other processes run cases for what they compile, which is then on the disk for all; see them end."""
    start, processes = time.monotonic(), list[subprocess.Popen[bytes]]()
    try:
        for stage in stages:
            for index in range(stage.warm_ups):
                words = [stage.name, "--output", str(folder), "--warm", str(index), str(stage.warm_ups), *options]
                processes.append(_start(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0, start + WARMING - time.monotonic()))
    finally:
        for process in processes:
            _kill_group(process)


def _run_stage(stage: Stage, limit: float, folder: Path, options: Sequence[str]) -> bool:
    """Run one stage, anew behind what ended its process; return whether all of it went well."""
    journal, start = Journal(folder, stage.name), time.monotonic()
    ending = _run_to_the_end(journal, start + limit, folder, options)
    faults = sum("error" in row or row.get("passed") is False for row in journal.rows())
    journal.write(ended=ending, after_s=round(time.monotonic() - start, 1), limit_s=round(limit, 1), faults=faults)
    return ending == "complete" and not faults


def _run_to_the_end(journal: Journal, deadline: float, folder: Path, options: Sequence[str]) -> str:
    while (left := deadline - time.monotonic()) > STARTING:
        code = _run_process(journal.stage, left, folder, options)
        if code == 0:
            return "complete"
        lost, journal.running = journal.running, None
        if code is None:
            return f"out of time{f' in {lost}' if lost else ''}"
        if lost is None:
            return f"failed with exit code {code}; see log.txt"
        if lost not in journal.settled():
            journal.write(case=lost, error=f"its process ended, or was ended, with exit code {code}; see log.txt")
    return "out of time"


def _run_process(stage: str, seconds: float, folder: Path, options: Sequence[str]) -> int | None:
    """Return the exit code; None: it was killed, with all that it had started, because the time was over."""
    words = [stage, "--output", str(folder), "--seconds", f"{seconds:.0f}", *options]
    with (folder / "log.txt").open("a") as log:
        process = _start(words, stderr=log)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill_group(process)


def _start(words: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
    """Start a stage's process as the leader of a group."""
    paths = [str(ROOT / "scripts"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([*COMMAND, *words], env=environment, start_new_session=True, **streams)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
