"""Limits of what a pickle may describe, told from its instructions: nothing of it is built before.

Some kilobytes can stand for a list of 2 ** 60 elements, one list twice in the next. It costs nothing to load, and for
ever to print, compare, copy or hash, which the loader itself does with the keys of a dictionary.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any, BinaryIO

from semanir_plugin.inference.pickle_calls import Calls, Value, check_change

__all__ = ["check_pickle"]

MOST_VALUES = 10_000_000  # with what is shared counted each time; a tensor has about 15, of an optimiser 45
MOST_LEVELS = 100
MOST_BITS = 4_096  # of an integer; Python prints no more than 14,000
TEXT_UNIT = 16  # characters that count as one value


_MARK = Value()
_NEEDS_MARK = ("APPENDS", "SETITEMS", "ADDITEMS")
_INTO = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, **dict.fromkeys(_NEEDS_MARK)}
"""Instructions that put values into the one below them: how many; None: all above the last mark."""


def check_pickle(file: BinaryIO, calls: Calls) -> None:
    """Read a pickle's instructions up to its end, and compare what they describe with the limits.

    Args:
        file: Where the pickle begins.
        calls: Check of the calls of all pickles of the file.

    Raises:
        OverflowError: It describes too much, or something that contains itself.
        Exception: It is none; of arbitrary bytes `pickletools` raises many kinds.
    """
    stack: list[Value] = []
    memo: dict[int, Value] = {}
    for operation, argument, _ in pickletools.genops(file):
        _follow(operation, argument, stack, memo, calls)
    _measure([*stack, *memo.values()])


def _follow(
    operation: pickletools.OpcodeInfo, argument: Any, stack: list[Value], memo: dict[int, Value], calls: Calls
) -> None:
    """Do to a stack of values what an instruction does."""
    name = operation.name
    if name == "MARK":
        stack.append(_MARK)
    elif name.endswith("GET"):
        stack.append(memo[int(argument)])
    elif name == "MEMOIZE" or name.endswith("PUT"):
        memo[len(memo) if argument is None else int(argument)] = stack[-1]
    elif name in _INTO:
        parts = list(_pop(stack, _INTO[name]))
        if name == "BUILD":
            check_change(stack[-1])
        stack[-1].parts += parts
    elif operation.stack_after:
        takes = None if pickletools.markobject in operation.stack_before else len(operation.stack_before)
        parts = list(_pop(stack, takes))[::-1]
        stack.append(Value(name, argument, _units(argument), parts))
        calls.check(stack[-1])
    elif name != "STOP" and operation.stack_before:
        list(_pop(stack, 1))


def _pop(stack: list[Value], count: int | None) -> Iterator[Value]:
    """Take values from a stack: some, or all above the last mark, and that one too."""
    while count is None or count > 0:
        value = stack.pop()
        if value is _MARK and count is None:
            return
        yield value
        count = None if count is None else count - 1


def _units(argument: Any) -> int:
    """Return in how many units the text of a plain value is.

    Raises:
        OverflowError: It is an integer that is too long to print.
    """
    if isinstance(argument, int) and argument.bit_length() > MOST_BITS:
        raise OverflowError(f"an integer of {argument.bit_length():,} bits")
    return 1 + (len(argument) // TEXT_UNIT if isinstance(argument, str | bytes) else 0)


def _measure(roots: list[Value]) -> None:
    """Compare the sizes and depths of values, all that they share counted each time, with the limits.

    Raises:
        OverflowError: One is beyond them, or contains itself.
    """
    measured: dict[Value, tuple[int, int]] = {}
    open_ones: set[Value] = set()
    waiting = list(roots)
    while waiting:
        value = waiting[-1]
        inner = [each for each in value.parts if each not in measured]
        if value in measured or not inner:
            waiting.pop()
            open_ones.discard(value)
            measured[value] = _sum_up(value, measured)
        elif value in open_ones:
            raise OverflowError("something that contains itself")
        else:
            open_ones.add(value)
            waiting += inner


def _sum_up(value: Value, measured: dict[Value, tuple[int, int]]) -> tuple[int, int]:
    """Return a value's size and depth, from those of its parts."""
    size = value.units + sum(measured[each][0] for each in value.parts)
    depth = 1 + max((measured[each][1] for each in value.parts), default=0)
    if size > MOST_VALUES:
        raise OverflowError(f"more than {MOST_VALUES:,} values")
    if depth > MOST_LEVELS:
        raise OverflowError(f"more than {MOST_LEVELS} levels, one in the other")
    return size, depth
