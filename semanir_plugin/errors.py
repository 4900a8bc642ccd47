"""Errors for the user of the command line, and messages about unknown names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["UserError", "describe_unknown", "first_names", "near_match", "one_line", "printable"]


_WHERE = re.compile(r"^ +.*\n", re.MULTILINE)
"""A line of a traceback before the last, which says what was raised."""


class UserError(Exception):
    """Error that the user can mend: what is wrong, where, and what to do, in one line.

    The command prints the message alone and ends with exit code 2.
    """

    def __str__(self) -> str:
        # torch's DataLoader raises a worker's exception again with the traceback as text; the message is its end.
        return printable(super().__str__().rsplit("UserError: ", 1)[-1].strip())


def first_names(names: list[str], count: int = 3) -> str:
    """Join the first few names, and say how many more there are."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def near_match(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a misspelt one, if any is like it."""
    spelt = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), spelt, n=1)
    return spelt[close[0]] if close else None


def describe_unknown(kind: str, name: str, known: Iterable[str], owner: str | None = None) -> str:
    """Return a message that a name is unknown, with the nearest known name and all others."""
    known = sorted(known)
    near = near_match(name, known)
    hint = f"did you mean '{near}'? " if near else ""
    return f"unknown {kind} '{name}'{f' of {owner}' if owner else ''}; {hint}known: {', '.join(known)}"


def one_line(error: BaseException) -> str:
    """Return the message of any exception in one line, with its type where the message alone says little.

    Of one that torch carried from another process with all of its traceback, the end of that is returned.
    """
    _, carried, trace = str(error).partition("\nOriginal Traceback ")
    if carried:
        return printable(_WHERE.split(trace)[-1].strip())
    message = printable(" ".join(str(error).split()))
    return message if isinstance(error, UserError | ValueError) and message else f"{type(error).__name__}: {message}"


def printable(text: str) -> str:
    """Return a text with control characters, which names of files may have, escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
