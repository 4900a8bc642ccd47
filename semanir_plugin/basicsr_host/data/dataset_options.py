"""Option schemas of the plugin's own datasets, and options given as one number or as a range."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

__all__ = [
    "DatasetOptions",
    "Problem",
    "check_range",
    "pick_options",
    "read_options",
    "sample_integer",
    "sample_uniform",
]

Problem = tuple[str, str]  # an option, and what is wrong with it


class DatasetOptions(Protocol):
    """Options of one kind of dataset: the constructor's signature is the option file's schema."""

    def problems(self, *, training: bool) -> Iterable[Problem]:
        """Yield the problems of values whose types are right."""


Options = TypeVar("Options", bound=DatasetOptions)


def pick_options(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Return the options of one schema from a mapping that also has others; values are not checked."""
    return kind(**{key: values[key] for key in inspect.signature(kind).parameters if key in values})


def read_options(kind: type[Options], opt: Mapping[str, Any]) -> Options:
    """Return the options of one schema from those of a dataset, checked.

    Raises:
        ValueError: A value cannot be right.
    """
    options = pick_options(kind, opt)
    for _, problem in options.problems(training=opt["phase"] == "train"):
        raise ValueError(problem)
    return options


def check_range(name: str, value: Any, *, least: float, most: float, training: bool) -> Iterator[Problem]:
    """Yield the problems of a number or [low, high]: its form, its limits, or that scores need one number."""
    ends = value if isinstance(value, Sequence) else [value, value]
    if len(ends) != 2 or ends[0] > ends[1]:
        yield name, f"{name} must be one number or [low, high], not {value}"
    elif not least <= ends[0] <= ends[1] <= most:
        yield name, f"{name} must lie from {least} to {most}, not {value}"
    elif isinstance(value, Sequence) and not training:
        yield name, f"{name} must be one number where images are scored, not {value}; add a dataset for each"


def sample_uniform(value: float | Sequence[float]) -> float:
    """Sample uniformly from [low, high], with Python's global generator; one number is itself."""
    return random.uniform(*value) if isinstance(value, Sequence) else value


def sample_integer(value: int | Sequence[int]) -> int:
    """Sample an integer of [low, high], both included; one number is itself."""
    return random.randint(*value) if isinstance(value, Sequence) else value
