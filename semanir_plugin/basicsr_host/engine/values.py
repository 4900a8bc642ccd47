"""Comparison of YAML values with type hints."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["conforms", "describe_hint", "describe_value", "parameter_hints"]

Hint = Any  # a type, or what `typing` makes of types


def parameter_hints(target: Callable) -> dict[str, Hint]:
    """Return the type hints of a function's or constructor's parameters; none if they cannot be evaluated."""
    try:
        return typing.get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):  # a name that its module imports for type checkers only
        return {}


def conforms(value: Any, hint: Hint) -> bool:
    """Return whether a value fits a type hint: numbers, strings, booleans, literals, lists and unions of them.

    An int fits float; a bool fits neither int nor float. Any value fits a hint of another kind.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, UnionType):
        return any(conforms(value, each) for each in arguments)
    if origin in (Sequence, list):
        return isinstance(value, list) and all(conforms(item, arguments[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    return hint not in (int, str, bool, NoneType) or type(value) is hint


def describe_hint(hint: Hint) -> str:
    """Return a hint in words: `int or a list of int`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(describe_value, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(describe_hint, arguments))
    if origin in (Sequence, list):
        return f"a list of {describe_hint(arguments[0])}"
    return "~" if hint is NoneType else getattr(hint, "__name__", str(hint))


def describe_value(value: Any) -> str:
    """Return a value roughly as YAML spells it."""
    if value is None:
        return "~"
    return str(value).lower() if isinstance(value, bool) else repr(value)
