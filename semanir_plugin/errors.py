"""Errors for the user of the command line, messages about unknown names, and how messages are shown."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable
from importlib.util import find_spec

__all__ = [
    "MessageFormatter",
    "UserError",
    "describe_unknown",
    "first_names",
    "near_match",
    "one_line",
    "printable",
    "shorten",
]

_LONGEST = 4_000
"""Characters of a message: a list of all architectures has some hundred."""

_BEGINNING, _END = 3_400, 500
"""Characters kept of a longer one: what is wrong stands first, and last what to do."""

_WHERE = re.compile(r"^ +.*\n", re.MULTILINE)
"""A line of a traceback before the last, which says what was raised."""


class UserError(Exception):
    """Error that the user can mend: what is wrong, where, and what to do, in one line.

    The command prints the message alone and ends with exit code 2.
    """

    def __str__(self) -> str:
        # torch's DataLoader raises a worker's exception again with the traceback as text; the message is its end.
        return shorten(printable(super().__str__().rsplit("UserError: ", 1)[-1].strip()))


class MessageFormatter(logging.Formatter):
    """Formats log messages so that what a stranger's file says in them cannot steer a terminal or fill a disk.

    Of each line control characters are spelt out, as `printable` does, and the middle is left out, as `shorten` does;
    line breaks and tabs stay.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's text."""
        return re.sub(r"[^\n\t]+", lambda found: shorten(printable(found[0])), super().format(record))


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
        return shorten(printable(_WHERE.split(trace)[-1].strip()))
    message = shorten(printable(" ".join(str(error).split())))
    return message if isinstance(error, UserError | ValueError) and message else f"{type(error).__name__}: {message}"


def printable(text: str) -> str:
    """Return a text with control characters, which names of files may have, escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shorten(text: str) -> str:
    """Return a text of at most 4,000 characters: of a longer one the middle is left out, and said so."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_BEGINNING]} [{len(text) - _BEGINNING - _END:,} characters left out] {text[-_END:]}"


def require_package(name: str, purpose: str, distribution: str | None = None) -> None:
    """Refuse, before any work, what needs a package that is not installed; a distribution may have another name.

    Raises:
        UserError: It is not installed.
    """
    if find_spec(name) is None:
        raise UserError(f"{purpose} needs the package {name}: pip install {distribution or name}")
