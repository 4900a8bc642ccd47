"""Forms of nested values that a file brings along, and where in one a value has another form."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from types import NoneType
from typing import Any

from semanir_plugin.schema.values import conforms, describe_hint, describe_value

__all__ = ["Each", "Form", "IfThere", "form_problem"]

Form = Any
"""A type of `values`, a class or several, a list with the form of its elements, a section with the form of each key."""

_LONGEST = 60  # characters of a value in a message
_HINTS = (int, float, str, bool, NoneType)
_NAMES: dict[Any, str] = {Real: "a number", Mapping: "a section"}


@dataclass(frozen=True)
class Each:
    """Form of a section with any keys, by that of all its values."""

    form: Form


@dataclass(frozen=True)
class IfThere:
    """Form of a value that its section need not have."""

    form: Form


def form_problem(value: Any, form: Form) -> str | None:
    """Return what is wrong with the first value that has not its form, and the key where it stands; None if all have.

    Keys beyond those of a section's form may have any value.
    """
    return next(_problems(value, form, ()), None)


def _problems(value: Any, form: Form, keys: tuple[Any, ...]) -> Iterator[str]:
    kind = _kind_of(form)
    if not _fits(value, kind):
        yield f"{_spell(keys)} must be {_describe(kind)}, not {_told(value)}"
        return
    for key, inner in _parts(value, form):
        if not isinstance(form, Mapping) or key in value:
            yield from _problems(value[key], inner.form if isinstance(inner, IfThere) else inner, (*keys, key))
        elif not isinstance(inner, IfThere):
            yield f"{_spell((*keys, key))} is missing"


def _kind_of(form: Form) -> Any:
    """Return what a value of a form is, whatever its parts are."""
    return Mapping if isinstance(form, Mapping | Each) else list if isinstance(form, list) else form


def _fits(value: Any, kind: Any) -> bool:
    if kind is list:
        return isinstance(value, list | tuple)
    return conforms(value, kind) if _is_hint(kind) else isinstance(value, kind)


def _is_hint(kind: Any) -> bool:
    return kind in _HINTS or typing.get_origin(kind) is not None


def _describe(kind: Any) -> str:
    if isinstance(kind, tuple):
        return " or ".join(map(_describe, kind))
    return _NAMES.get(kind) or (describe_hint(kind) if _is_hint(kind) else f"a {kind.__name__.lower()}")


def _parts(value: Any, form: Form) -> Iterator[tuple[Any, Form]]:
    """Yield the keys that a form asks for, and the form under each."""
    if isinstance(form, Mapping):
        yield from form.items()
    elif isinstance(form, Each):
        yield from ((key, form.form) for key in value)
    elif isinstance(form, list):
        yield from ((index, form[0]) for index in range(len(value)))


def _spell(keys: tuple[Any, ...]) -> str:
    return ":".join(str(key)[:_LONGEST] for key in keys) or "it"


def _told(value: Any) -> str:
    """Return a value where it is short and plain, else its class."""
    plain = value is None or isinstance(value, bool | int | float | str)
    told = describe_value(value) if plain else ""
    return told if 0 < len(told) <= _LONGEST else f"a {type(value).__name__}"
