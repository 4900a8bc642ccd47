"""Lists of images as BasicSR's `meta_info_file` gives them: a name in each line, and perhaps its size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from semanir_plugin.path_safety import can_name_file

__all__ = ["ListedImage", "Size", "is_below", "read_meta_info", "read_text_lines"]

Size = tuple[int, int]  # width, height

_SIZE = re.compile(r"\(([1-9]\d{0,5}), ?([1-9]\d{0,5})(?:, ?[1-4])?\)(?: |$)", re.ASCII)


@dataclass(frozen=True)
class ListedImage:
    """A line of a list.

    Attributes:
        name: Of the file, below its folder.
        place: File and line.
        size: Width and height, where the line tells them.
    """

    name: str
    place: str
    size: Size | None


def read_meta_info(path: Path) -> list[ListedImage]:
    """Read a list.

    Raises:
        ValueError: The file cannot be read, or a line is blank or names no file below a folder; with its number.
    """
    return [_read_line(line, f"{path}:{number}") for number, line in enumerate(read_text_lines(path), 1)]


def read_text_lines(path: Path) -> list[str]:
    """Return the lines of a text file, as BasicSR divides them.

    Raises:
        ValueError: It cannot be read, or is no text.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return [line.removesuffix("\n") for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text; make it again") from error


def _read_line(line: str, place: str) -> ListedImage:
    name, _, rest = line.rstrip().partition(" ")
    if not name:
        raise ValueError(f"{place}: the line {'starts with a space' if rest else 'is blank'}; remove it")
    if not is_below(name):
        raise ValueError(f"{place}: '{name}' is not a file below the folder; correct it")
    if rest and not Path(name).suffix:
        raise ValueError(f"{place}: a name ends at the first space, so it is '{name}'; rename the file")
    size = _SIZE.match(rest)
    if size is None and rest.startswith("("):
        raise ValueError(f"{place}: '{rest}' is not a size like '(480,480,3)'; correct it")
    return ListedImage(name, place, (int(size[2]), int(size[1])) if size else None)


def is_below(name: str) -> bool:
    """Return whether a listed name stays in its folder or one below it; results are named after it, too."""
    return all(can_name_file(part) for part in name.split("/"))
