"""Nested lists and dictionaries, such as option files hold, with some parts that are others."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

__all__ = ["Place", "Values", "at", "change_tree", "draw_text", "draw_value", "places"]

Place = tuple[Any, ...]
Values = Callable[[Random], Any]

NUMBERS = (
    0,
    1,
    300,
    5_000,
    70_000,
    10**6,
    2**31,
    2**63,
    -(2**64),
    10**30,
    0.5,
    -0.0,
    1e-300,
    1e300,
    float("inf"),
    float("nan"),
)
TEXTS = (
    "",
    " ",
    "~",
    "none",
    "auto",
    "train",
    "lmdb",
    "disk",
    "../x",
    "/dev/null",
    "{}",
    "{0}",
    "\0",
    "\ud800",
    "x" * 300,
)
KEYS = ("type", "name", "base", "sigma", "opt", "<<", "*", "test_1", "val", "train")
SYMBOLS = " :=[]{},&*!|>'\"%@`#-?<~.0159aefgnortu\n\t\0\u00e9\u2028\U0001f600"


def places(value: Any, keys: Place = ()) -> Iterator[Place]:
    """Yield the place of everything in nested values, as the keys and indices that lead there."""
    if keys:
        yield keys
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places(child, (*keys, key))


def at(value: Any, keys: Sequence[Any]) -> Any:
    """Return what lies at a place."""
    for key in keys:
        value = value[key]
    return value


def draw_text(random: Random, longest: int = 8) -> str:
    """Return a text of symbols that mean something in YAML, JSON or file names."""
    return "".join(random.choice(SYMBOLS) for _ in range(random.randint(0, longest)))


def draw_value(random: Random) -> Any:
    """Return a value of any kind that YAML has: mostly a single one."""
    kind = random.choices(
        ("none", "bool", "small", "number", "text", "free", "list", "section", "date", "bytes"), (4,) * 8 + (1, 1)
    )[0]
    if kind == "list":
        return [draw_value(random) for _ in range(random.randint(0, 3))]
    if kind == "section":
        return {draw_key(random): draw_value(random) for _ in range(random.randint(0, 3))}
    return {
        "none": None,
        "bool": random.random() < 0.5,
        "small": random.randint(-3, 70),
        "number": random.choice(NUMBERS),
        "text": random.choice(TEXTS),
        "free": draw_text(random),
        "date": datetime.date(random.randint(1, 9999), 2, 3),
        "bytes": random.randbytes(random.randint(0, 4)),
    }[kind]


def draw_key(random: Random) -> str:
    """Return the name of an option, or of none."""
    return random.choice(KEYS) if random.random() < 0.5 else draw_text(random, 6)


def change_tree(random: Random, tree: Any, values: Values = draw_value) -> None:
    """Replace, remove, move, add or rename a part of nested values, in place.

    Args:
        random: What to change, and how.
        tree: Lists and dictionaries.
        values: Draws a new value.
    """
    known = list(places(tree))
    if not known:
        return
    *parents, last = random.choice(known)
    section = at(tree, parents)
    change = random.choice(("replace", "replace", "remove", "move", "add", "rename"))
    if change == "replace":
        section[last] = values(random)
    elif change == "move":
        section[last] = copy.deepcopy(at(tree, random.choice(known)))
    elif change == "add" and isinstance(section, dict):
        section[draw_key(random)] = values(random)
    else:
        value = section.pop(last)
        if change == "rename" and isinstance(section, dict):
            section[draw_key(random)] = value
