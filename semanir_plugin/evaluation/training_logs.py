"""Losses and validation scores by iteration, read from a training's logs or TensorBoard's records."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from semanir_plugin.errors import UserError, one_line, require_package

__all__ = ["TrainingRun", "read_options", "read_run", "read_runs"]

Point = tuple[str, int, float]  # series, iteration, value

_PROGRESS = re.compile(r"\[epoch: *[\d,]+, iter: *([\d,]+), lr:\([^)]*\)\]")
_NUMBER = r"(-?(?:nan|inf|\d+\.\d+(?:e[+-]\d+)?))\s"  # with what follows it: a log may end within a number
_LOSS = re.compile(rf"\b(l_\w+): {_NUMBER}")
_START = re.compile(r"iterations ([\d,]+) to [\d,]+\.$|Start training from epoch: \d+, iter: (\d+)")
_UNDONE = re.compile(r"Iteration ([\d,]+) is yet to be validated\.$")
_FREQUENCY = re.compile(r"^\s*val_freq: (\S+)$")
_LAST = re.compile(r"^\s*total_iter: (\S+)$")
_VALIDATION = re.compile(r"INFO: Validation (.+)$")
_OPTIONS = re.compile(r" DEBUG: *$")
_OPTION = re.compile(r" +([^:]+?):(\[| .*)$")
_SCORE = re.compile(rf"^\t # ([^:]+): {_NUMBER}")


@dataclass(frozen=True)
class TrainingRun:
    """Losses and validation scores that a training logged.

    Attributes:
        name: The run's.
        series: By name, the values by iteration, rising: `losses/l_pix`, `metrics/Set5/psnr`, as in TensorBoard.
    """

    name: str
    series: dict[str, dict[int, float]]


def read_runs(paths: Sequence[Path], names: Sequence[str] | None = None) -> list[TrainingRun]:
    """Read several runs, under the names given or their own; equal names are made distinct by their paths.

    Raises:
        UserError: As `read_run`; or there are not as many names as runs.
    """
    if names is not None and len(names) != len(paths):
        raise UserError(f"--names: {len(names)} names for {len(paths)} runs; give as many")
    runs = [read_run(path) for path in paths]
    names = names or _distinct_names([run.name for run in runs], paths)
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _distinct_names(names: list[str], paths: Sequence[Path]) -> list[str]:
    """Return distinct names: those given or, where some are equal, as much of the ends of the paths as it takes."""
    parts = [path.resolve().parts for path in paths]
    for count in range(max(map(len, parts))):
        if len(set(names)) == len(names):
            break
        names = [str(Path(*each[-count - 1 :])) for each in parts]
    return names


def read_run(path: Path) -> TrainingRun:
    """Read a run, also one interrupted and resumed: of an iteration in several files the latest counts.

    Args:
        path: A log, an event file of TensorBoard's, or a folder of one run with either.

    Raises:
        UserError: There is nothing to read, or nothing about a training in it.
    """
    files = _find_files(path)
    series: dict[str, dict[int, float]] = {}
    for file in files:
        _add(series, *(_read_events(file) if _is_event_file(file) else _read_log(file)))
    if not any(series.values()):
        raise UserError(f"{path}: has no losses or validation scores; name the log of a training")
    return TrainingRun(_name(path), {name: dict(sorted(values.items())) for name, values in series.items() if values})


def read_options(path: Path) -> dict[str, Any]:
    """Return the options that a run was last started with, as its log shows them: its file's, with overrides.

    Args:
        path: A log, or a folder with those of one run.

    Raises:
        UserError: There is none that shows options.
    """
    for file in reversed(_find_files(path)):
        if not _is_event_file(file) and (options := _parse_options(file.read_text(encoding="utf-8", errors="replace"))):
            return options
    raise UserError(f"{path}: has no log with the options of a training (train_*.log); name the folder of a run")


def _parse_options(log: str) -> dict[str, Any]:
    """Return the first options in a log: a line each, `key: value`, sections between `key:[` and `]`."""
    lines = iter(log.splitlines())
    for line in lines:
        if _OPTIONS.search(line):
            break
    sections: list[dict[str, Any]] = [{}]
    for line in lines:
        if line.strip() == "]" and len(sections) > 1:
            sections.pop()
        elif not (found := _OPTION.match(line)):
            break
        elif found[2] == "[":
            sections.append(sections[-1].setdefault(found[1], {}))
        else:
            sections[-1][found[1]] = _value(found[2].strip())
    return sections[0]


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # a text, which logs show without quotes
        return text


def _find_files(path: Path) -> list[Path]:
    """Return the files of a run in the order in which they were written."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: there is no such file or folder; name a log, or the folder of a run")
    logs = sorted(path.glob("train_*.log")) or sorted(each for each in path.iterdir() if _is_event_file(each))
    if not logs:
        raise UserError(f"{path}: holds neither train_*.log nor TensorBoard's events; name the folder of one run")
    return logs


def _is_event_file(path: Path) -> bool:
    return "tfevents" in path.name


def _name(path: Path) -> str:
    if path.is_dir():
        return path.resolve().name
    if _is_event_file(path):
        return path.resolve().parent.name
    return re.sub(r"^train_|_\d{8}_\d{6}$", "", path.stem)


def _add(series: dict[str, dict[int, float]], points: list[Point], first: int | None) -> None:
    """Add the values of one file, whose first iteration, where it says so, is `first`; earlier values from there go.

    A validation of the iteration before may come first, which a killed run had left undone.
    """
    if not points:  # killed before it told anything
        return
    start = min(iteration for _, iteration, _ in points) if first is None else first
    for values in series.values():
        for iteration in [each for each in values if each >= start]:
            del values[iteration]
    for name, iteration, value in points:
        series.setdefault(name, {})[iteration] = value


def _read_events(path: Path) -> tuple[list[Point], int | None]:
    require_package("tensorboard", f"{path}: reading TensorBoard's events")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.compat.proto.event_pb2 import SessionLog

    events = EventAccumulator(str(path), size_guidance={"scalars": 0})  # 0: all of them
    try:
        events.Reload()
    except Exception as error:  # of what it parses, tensorboard says little
        raise UserError(f"{path}: cannot be read as TensorBoard's events ({one_line(error)})") from error
    names = [name for name in events.Tags()["scalars"] if name.startswith(("losses/", "metrics/"))]
    points = [(name, event.step, event.value) for name in names for event in events.Scalars(name)]
    starts = (each.step for each in EventFileLoader(str(path)).Load() if each.session_log.status == SessionLog.START)
    return points, next(starts, None)


def _read_log(path: Path) -> tuple[list[Point], int | None]:
    clock = _Clock()
    try:
        with path.open(encoding="utf-8") as lines:
            return list(_parse(lines, clock)), clock.first
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file; name a log, or TensorBoard's events by their own name") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); check the path") from error


def _parse(lines: Iterable[str], clock: _Clock) -> Iterator[Point]:
    dataset = None
    for line in lines:
        clock.read(line)
        if progress := _PROGRESS.search(line):
            clock.reach(_whole(progress[1]))
            for name, value in _LOSS.findall(line[progress.end() :]):
                yield f"losses/{name}", clock.iteration, float(value)
        elif validation := _VALIDATION.search(line):
            dataset = validation[1].strip()
            clock.validate(dataset)
        elif dataset and (score := _SCORE.match(line)):
            yield f"metrics/{dataset}/{score[1]}", clock.validated[dataset], float(score[2])
        else:
            dataset = None


@dataclass
class _Clock:
    """Iterations of validations, which logs do not give: inferred from `val_freq` in the options that they hold.

    Attributes:
        iteration: The last one in the log so far.
        first: The first one that is trained in it, if it says so.
        validated: By validation set, the iteration of its last validation.
    """

    iteration: int = 0
    first: int | None = None
    validated: dict[str, int] = field(default_factory=dict)
    _frequency: int | None = None
    _last: int | None = None
    _done: bool = True  # whether `iteration` has passed without a validation of it to come

    def read(self, line: str) -> None:
        """Read the times in a line."""
        if found := _FREQUENCY.match(line):
            self._frequency = int(float(found[1]))
        elif found := _LAST.match(line):
            self._last = int(float(found[1]))
        elif found := _START.search(line):
            self.iteration, self._done = (_whole(found[1]) - 1 if found[1] else int(found[2])), True
            self.first = self.first or self.iteration + 1
        elif found := _UNDONE.search(line):
            self.reach(_whole(found[1]))
            self.first = self.iteration + 1

    def reach(self, iteration: int) -> None:
        """Take note of an iteration, which may be validated next."""
        self.iteration, self._done = iteration, False

    def validate(self, dataset: str) -> None:
        """Set the iteration of a validation: the first multiple of `val_freq` that it can be, or the end."""
        if self._frequency is None:
            self.validated[dataset] = self.iteration
            return
        least = max(self.iteration + self._done, self.validated.get(dataset, 0) + 1)
        at = -(-least // self._frequency) * self._frequency
        self.validated[dataset] = at if self._last is None else min(at, self._last)


def _whole(text: str) -> int:
    return int(text.replace(",", ""))
