"""A visitor's pictures on their way: which are restored, how far the others are, and what went wrong."""

from __future__ import annotations

import shutil
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semanir_plugin.errors import printable
from semanir_plugin.inference.photograph_reading import READABLE
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.restore_job import Outcome, try_job
from semanir_plugin.inference.restore_plan import Job, result_name
from semanir_plugin.web.gate import LEAST_FREE
from semanir_plugin.web.previews import Comparison
from semanir_plugin.web.stopping import Pulse

__all__ = ["Batch", "Report", "Result"]

EIGHT_WAYS = 8
ARROW = "\N{RIGHTWARDS ARROW}"
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A restored picture.

    Attributes:
        file: The result, by the name that `basicsr restore` gives it.
        before: A picture of what it was, of the size of `after`.
        after: A picture of the result.
        about: Its sizes, and how long it took.
    """

    file: Path
    before: Path
    after: Path
    about: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """How far a visitor's pictures are.

    Attributes:
        results: What is restored.
        problems: A line for each picture that is not, and for what results lack.
        done: How many pictures are dealt with.
        share: Share of the whole that is done, in [0, 1].
        seconds: How long the work has been going on.
        doing: What is being done; empty where nothing is, any longer.
        archive: All results in one file, where they are several and all is done.
    """

    results: Sequence[Result] = ()
    problems: Sequence[str] = ()
    done: int = 0
    share: float = 0.0
    seconds: float = 0.0
    doing: str = ""
    archive: Path | None = None


@dataclass
class Batch:
    """Pictures that are restored one after another.

    Attributes:
        folder: Where results go.
        stop: Once set, the work ends.
        pictures: Files of any kind, dropped by anyone.
    """

    folder: Path
    stop: threading.Event
    pictures: Sequence[Path]
    _results: list[Result] = field(default_factory=list)
    _problems: list[str] = field(default_factory=list)
    _archive: Path | None = None
    _started: float = field(default_factory=time.monotonic)
    _done: int = 0
    _finished: bool = False

    def __post_init__(self) -> None:
        self._pulse = Pulse(self.stop)

    @property
    def report(self) -> Report:
        """How far it is."""
        done, total = self._done, len(self.pictures)
        within = 0.0 if done == total else self._pulse.share
        return Report(
            results=tuple(self._results),
            problems=tuple(self._problems),
            done=done,
            share=(done + within) / total,
            seconds=time.monotonic() - self._started,
            doing="" if self._finished else printable(self.pictures[min(done, total - 1)].name),
            archive=self._archive,
        )

    def run(self, restoration: PhotographRestoration, most_pixels: int) -> None:
        """Restore one picture after another, of so many pixels at most.

        Raises:
            Stopped: It is to stop.
        """
        passes = EIGHT_WAYS if restoration.restoration.options.self_ensemble else 1
        self._started = time.monotonic()
        for number, picture in enumerate(self.pictures, 1):
            self._pulse = Pulse(self.stop)
            with self._pulse.within(restoration.network, passes):
                self._restore(number, picture, restoration, most_pixels)
            self._done = number

    def finish(self) -> None:
        """Put several results into one file, and say that nothing is done any longer."""
        if len(self._results) > 1 and self.folder.is_dir():
            self._archive = _pack([result.file for result in self._results], self.folder / "restored.zip")
        self._finished = True

    def _restore(self, number: int, picture: Path, restoration: PhotographRestoration, most_pixels: int) -> None:
        name, started = printable(picture.name), time.monotonic()
        job, comparison = Job(picture, self.folder / str(number) / result_name(picture)), Comparison()
        outcome = self._try(job, restoration, most_pixels, comparison)
        if outcome.problem:
            self._problems.append(f"{name}: {outcome.problem}")
            return
        if outcome.lost:
            self._problems.append(f"{name}: note: a {job.target.suffix} does not keep its {', '.join(outcome.lost)}")
        before, after = comparison.write(self.folder / f"{number}_shown")
        about = (
            f"{_size(comparison.before)} {ARROW} {_size(comparison.after)} pixels, {time.monotonic() - started:.1f} s"
        )
        self._results.append(Result(file=job.target, before=before, after=after, about=about))

    def _try(self, job: Job, restoration: PhotographRestoration, most_pixels: int, comparison: Comparison) -> Outcome:
        if job.source.suffix.lower() not in READABLE:
            return Outcome(f"not one of {', '.join(READABLE)}; convert it")
        if self.folder.is_dir() and shutil.disk_usage(self.folder).free < LEAST_FREE:
            return Outcome("the disk is nearly full; try again later")
        tell = self._pulse.on_tile
        outcome = try_job(job, restoration, tell, most_pixels=most_pixels, watch=comparison.watch)
        if outcome.is_out_of_memory:
            return Outcome("needs more memory than there is; choose smaller tiles, or make it smaller")
        return outcome


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]:,} {TIMES} {shape[0]:,}"


def _pack(files: Sequence[Path], archive: Path) -> Path:
    """Write files into an archive, and return its path; of those of one name all but the first are numbered."""
    taken: set[str] = set()
    with zipfile.ZipFile(archive, "w") as packed:  # as they are: pictures are packed already
        for file in files:
            name, number = file.name, 1
            while name.lower() in taken:
                number += 1
                name = f"{file.stem} ({number}){file.suffix}"
            taken.add(name.lower())
            packed.write(file, name)
    return archive
