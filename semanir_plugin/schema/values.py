"""Types of option values, with their ranges: comparison with what YAML gives, and description in words."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

__all__ = [
    "Count",
    "FromZero",
    "NonNegative",
    "Positive",
    "Range",
    "Share",
    "conforms",
    "describe_hint",
    "describe_value",
    "find_marks",
    "in_range",
    "parameter_hints",
    "to_hint",
    "without_null",
]

Hint = Any  # a type, or what `typing` makes of types
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Range of a number; goes into `Annotated`.

    Attributes:
        least: Smallest value.
        above: What every value is larger than.
        most: Largest value.
        below: What every value is smaller than.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = {"above": self.above, "of at least": self.least, "below": self.below, "at most": self.most}
        return " and ".join(f"{word} {limit:.15g}" for word, limit in words.items() if limit is not None)


Count = Annotated[int, Range(least=1)]
FromZero = Annotated[int, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]


def parameter_hints(target: Callable) -> dict[str, Hint]:
    """Return the type hints of a function's or constructor's parameters; none if they cannot be evaluated."""
    try:
        function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):  # a name that its module imports for type checkers only
        return {}


def conforms(value: Any, hint: Hint, *, whole: bool = False) -> bool:
    """Return whether a value fits a type hint: numbers, strings, booleans, literals, sections, lists, unions of them.

    An int fits float; a bool fits neither int nor float, nor does what is not finite. Any value fits a hint of another
    kind.

    Args:
        value: As YAML gives it.
        hint: Type, with its range.
        whole: Whether floats without a fraction, as in `!!float 5e3`, fit int.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [mark for mark in arguments[1:] if isinstance(mark, Range)]
        return conforms(value, arguments[0], whole=whole) and all(value in each for each in limits)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, UnionType):
        return any(conforms(value, each, whole=whole) for each in arguments)
    if origin in (Sequence, list):
        return isinstance(value, list) and all(conforms(item, arguments[0], whole=whole) for item in value)
    if origin is Mapping:
        return isinstance(value, dict)
    if hint is float or (hint is int and whole and type(value) is float and value.is_integer()):
        return type(value) in (int, float) and math.isfinite(value)
    return hint not in (int, str, bool, NoneType) or type(value) is hint


def in_range(value: Any, hint: Hint) -> bool:
    """Return whether a number, or each of a sequence, is in the range of a type hint; what has none, any value fits.

    For arguments in Python, where a tuple is a sequence too, and a number need not be an int or a float.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        number = isinstance(value, Real)
        return number and all(value in mark for mark in arguments[1:] if isinstance(mark, Range))
    if origin in (Union, UnionType):
        return any(in_range(value, each) for each in arguments)
    if origin is Sequence:
        return not isinstance(value, Real) and all(in_range(item, arguments[0]) for item in value)
    return hint is not NoneType or value is None


def describe_hint(hint: Hint, *, plural: bool = False) -> str:
    """Return a hint in words: `a whole number of at least 1 or a list of numbers`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = " ".join(str(mark) for mark in arguments[1:] if isinstance(mark, Range))
        return f"{describe_hint(arguments[0], plural=plural)} {limits}".rstrip()
    if origin is Literal:
        return " or ".join(map(describe_value, arguments))
    if origin in (Union, UnionType):
        return " or ".join(describe_hint(each, plural=plural) for each in arguments)
    if origin in (Sequence, list):
        return f"{'lists' if plural else 'a list'} of {describe_hint(arguments[0], plural=True)}"
    name, article = _NAMES.get(Mapping if origin is Mapping else hint, (None, ""))
    if name is None:
        return "~" if hint is NoneType else getattr(hint, "__name__", str(hint))
    return f"{name}s" if plural and article else article + name


_NAMES: dict[Any, tuple[str, str]] = {
    int: ("whole number", "a "),
    float: ("number", "a "),
    str: ("string", "a "),
    bool: ("true or false", ""),
    Mapping: ("section", "a "),
}


def describe_value(value: Any) -> str:
    """Return a value roughly as YAML spells it."""
    if value is None:
        return "~"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def without_null(hint: Hint) -> Hint:
    """Return a hint that does not mention null."""
    if get_origin(hint) is Annotated:
        return without_null(get_args(hint)[0]) if get_origin(get_args(hint)[0]) in (Union, UnionType) else hint
    if get_origin(hint) not in (Union, UnionType):
        return hint
    return Union[tuple(each for each in get_args(hint) if each is not NoneType)]  # noqa: UP007  # made at run time


def find_marks(hint: Hint, kind: type[T]) -> Iterator[T]:
    """Yield what `Annotated` adds to a hint, or to a part of it, of a kind."""
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        yield from (mark for mark in arguments[1:] if isinstance(mark, kind))
        arguments = arguments[:1]
    if get_origin(hint) is not Literal:
        for each in arguments:
            yield from find_marks(each, kind)


def to_hint(value: Any, hint: Hint) -> Any:
    """Return a value that conforms as its hint says: floats that stand for whole numbers become whole."""
    if conforms(value, hint):
        return value
    return [_to_whole(each) for each in value] if isinstance(value, list) else _to_whole(value)


def _to_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
