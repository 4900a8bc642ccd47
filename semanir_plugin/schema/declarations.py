"""Options as their declarations tell them: name, type, default, meaning, and version since when."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, TypeVar

from semanir_plugin.schema.values import (
    Hint,
    conforms,
    describe_hint,
    describe_value,
    find_marks,
    parameter_hints,
    to_hint,
)

__all__ = [
    "REQUIRED",
    "Option",
    "Since",
    "ToTrain",
    "about",
    "complete",
    "options_of",
    "pick_options",
    "value_problems",
]

T = TypeVar("T")

REQUIRED = inspect.Parameter.empty
"""Stands for the default of an option that has none."""

_FIRST_VERSION = "0.1.0"
_ENTRY = re.compile(r"^    (\w+(?:, \w+)*)(?: \(.*?\))?: (.*(?:\n     .*|\n(?=\n     ))*)", re.MULTILINE)


@dataclass(frozen=True)
class Since:
    """Version that an option came with, where that is not the first; goes into `Annotated`."""

    version: str


@dataclass(frozen=True)
class ToTrain:
    """Mark of an option without which there is no training, though its class has a default."""


@dataclass(frozen=True)
class Option:
    """An option that an option file may give.

    Attributes:
        name: Its key.
        hint: Type of its value, with its range.
        default: Value where the file gives none; `REQUIRED`: it must.
        meaning: What it is, in a sentence or two.
    """

    name: str
    hint: Hint
    default: Any
    meaning: str

    @property
    def required(self) -> bool:
        """Whether the file must give it."""
        return self.default is REQUIRED

    @property
    def required_to_train(self) -> bool:
        """Whether a training needs it."""
        return any(find_marks(self.hint, ToTrain))

    @property
    def since(self) -> str:
        """Version that it came with."""
        return next((mark.version for mark in find_marks(self.hint, Since)), _FIRST_VERSION)


def options_of(declared: Callable[..., Any]) -> tuple[Option, ...]:
    """Return what a dataclass of options, or any constructor or function, takes by name."""
    return _options_of(declared)


@cache
def _options_of(declared: Any) -> tuple[Option, ...]:
    parameters = inspect.signature(declared).parameters.values()
    hints, meanings = _hints(declared), _meanings(declared)
    return tuple(
        Option(each.name, hints.get(each.name, Any), each.default, meanings.get(each.name, ""))
        for each in parameters
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    )


def _hints(declared: Callable[..., Any]) -> dict[str, Hint]:
    """Return type hints; those of a dataclass stand on its fields, and may come from the modules of its bases."""
    return typing.get_type_hints(declared, include_extras=True) if is_dataclass(declared) else parameter_hints(declared)


def _meanings(declared: Callable[..., Any]) -> dict[str, str]:
    """Return what docstrings say of each parameter; a class's own words come before those of its bases."""
    told: dict[str, str] = {}
    for each in reversed(declared.__mro__) if isinstance(declared, type) else [declared]:
        text = inspect.cleandoc(vars(each).get("__doc__") or "") if isinstance(each, type) else inspect.getdoc(each)
        for names, meaning in _ENTRY.findall(text or ""):
            told |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return told


def about(target: Callable[..., Any]) -> str:
    """Return the first sentence of a docstring of its own; empty where there is none."""
    if isinstance(target, type) and target.__doc__ is None:  # what it inherits describes its base
        return ""
    paragraph = " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def pick_options(kind: type[T], values: Mapping[str, Any] | None) -> T:
    """Return a dataclass of options from a mapping that may also have others; null stands for the default.

    Values are not checked.
    """
    given = values or {}
    taken = {each.name: each.hint for each in options_of(kind) if given.get(each.name) is not None}
    return kind(**{name: to_hint(given[name], hint) for name, hint in taken.items()})


def value_problems(options: Any) -> Iterator[tuple[str, str]]:
    """Yield the options of a dataclass whose values are not of their type and range, and what is wrong with them."""
    for each in options_of(type(options)):
        value = getattr(options, each.name)
        if not conforms(value, each.hint):
            yield each.name, f"{each.name} must be {describe_hint(each.hint)}, not {describe_value(value)}"


def complete(values: Mapping[str, Any], *kinds: type) -> dict[str, Any]:
    """Return a checked section with its numbers in the form that its declarations ask for, and with their defaults.

    Null stands for the default. Options whose default is None stay away, as the host tells them from others.
    """
    declared = {each.name: each for kind in kinds for each in options_of(kind)}
    given = {
        key: to_hint(value, declared[key].hint) if key in declared else value
        for key, value in values.items()
        if value is not None or key not in declared or declared[key].required
    }
    defaults = {name: each.default for name, each in declared.items() if not each.required and each.default is not None}
    return {**defaults, **given}
