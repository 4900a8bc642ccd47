"""Options that a file of weights brings along: what they may be, checked before anything prints or compares them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from semanir_plugin.errors import UserError

__all__ = ["plain_options"]

MOST_VALUES = 10_000
MOST_LEVELS = 20
LONGEST_TEXT = 1_000  # characters
LARGEST = 2**63


def plain_options(options: Mapping[Any, Any], path: object, name: str) -> dict[str, Any]:
    """Return a copy of options that shares nothing, of plain values alone: as they would come from an option file.

    Args:
        options: As they were loaded.
        path: The file, for messages.
        name: Of the options, for messages.

    Raises:
        UserError: There are too many, too deep or too large ones, or one is no plain value.
    """
    try:
        return {_key(key): _copy(value, [MOST_VALUES], 1) for key, value in options.items()}
    except ValueError as error:
        raise UserError(f"{path}: its {name} has {error}; save the options of the network, and plain ones") from error


def _copy(value: Any, budget: list[int], depth: int) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    if depth > MOST_LEVELS:
        raise ValueError(f"more than {MOST_LEVELS} levels, one in the other")
    if isinstance(value, Mapping):
        return {_key(key): _copy(each, budget, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(each, budget, depth + 1) for each in value]
    if (problem := _problem(value)) is not None:
        raise ValueError(problem)
    return value


def _key(key: Any) -> str:
    if type(key) is not str or len(key) > LONGEST_TEXT:
        raise ValueError(f"a key that is {_problem(key) or f'a {type(key).__name__}, no text'}")
    return key


def _problem(value: Any) -> str | None:
    """Return what a single value is that no option is; None if it may be one."""
    if value is None or type(value) is bool:
        return None
    if type(value) is str:
        return f"a text of {len(value):,} characters" if len(value) > LONGEST_TEXT else None
    if type(value) is int:
        return "an integer of more than 64 bits" if abs(value) >= LARGEST else None
    if type(value) is float:
        return None if math.isfinite(value) else f"{value}, no number"
    return f"a {type(value).__name__}, no plain value"
