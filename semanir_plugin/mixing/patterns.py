"""Match the modules of a network with a pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from semanir_plugin.errors import near_match
from semanir_plugin.mixing.places import Form, Place

__all__ = ["match", "nothing_matches", "some"]

# How many candidates an error lists.
LISTED = 6


def match(pattern: str, places: Mapping[str, Place]) -> list[Place]:
    """Return the places whose name matches a pattern, or whose class has that name."""
    expression = re.compile(_translate(pattern))
    return [place for place in places.values() if expression.fullmatch(place.name) or place.kind == pattern]


def nothing_matches(pattern: str, places: Mapping[str, Place]) -> str:
    """Return the message for a pattern that matches nothing: a near one, and the known names."""
    fitting = [place for place in places.values() if place.form is not Form.NONE]
    kinds, names = list({place.kind: None for place in fitting}), [place.name for place in fitting]
    deeper = pattern.replace("*", "**")
    near = deeper if "**" not in pattern and match(deeper, places) else near_match(pattern, [*names, *kinds])
    hint = f"did you mean '{near}'? " if near else ""
    return f"nothing matches '{pattern}'; {hint}classes: {', '.join(kinds)}; names: {some(names)}"


def _translate(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    *parts, last = pattern.split(".")
    before = [r"(?:[^.]+\.)*" if part == "**" else _translate_part(part) + r"\." for part in parts]
    return "".join(before) + (r"[^.]+(?:\.[^.]+)*" if last == "**" else _translate_part(last))


def _translate_part(part: str) -> str:
    return re.escape(part).replace(r"\*", "[^.]*").replace(r"\?", "[^.]")


def some(names: Sequence[str]) -> str:
    """Return the first few of many names, and how many there are."""
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
