"""Text of others' in Markdown: names, messages and commands that are to be read as they are."""

from __future__ import annotations

import re

__all__ = ["escape_markdown", "format_code"]

# What begins emphasis, code, links, images, HTML, tables and formulas; and what turns into a link on its own.
# An underscore within a word is one.
_SPECIAL = re.compile(r"[\\`*\[\]<>&|~#!$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def escape_markdown(text: str) -> str:
    """Return text on one line that Markdown, GitHub's too, shows as it is, in a table as well.

    What would be HTML are entities, which readers that know no backslashes do not take for tags either.
    """
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), " ".join(text.split()))


def format_code(text: str) -> str:
    """Return text on one line as code, between more backticks than it has in a row."""
    text = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    margin = " " if "`" in text else ""
    return f"{fence}{margin}{text}{margin}{fence}"
