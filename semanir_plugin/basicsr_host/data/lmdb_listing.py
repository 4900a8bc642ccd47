"""What an LMDB in BasicSR's format says of its images in `meta_info.txt`, and what its `data.mdb` holds."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
from PIL import Image

from semanir_plugin.basicsr_host.data.meta_info import Size, is_below, read_text_lines
from semanir_plugin.basicsr_host.lmdb_environments import open_lmdb
from semanir_plugin.errors import first_names
from semanir_plugin.inference.image_limits import large_metadata
from semanir_plugin.inference.orientation import upright_size

__all__ = ["read_lmdb_keys", "read_lmdb_sizes"]

_SIDE = r"([1-9]\d{0,5})"
_LINE = re.compile(rf"([^.]+)\..*\({_SIDE}, ?{_SIDE}(?:, ?([1-4]))?\)(?: \d)?\s*", re.ASCII)
_HEAD = 4 << 10  # of an image, without the pixels
_CHANNELS = {"1": 1, "L": 1, "I": 1, "I;16": 1, "RGB": 3, "RGBA": 4}  # as decoded; of palettes it depends


@dataclass(frozen=True)
class _Entry:
    """A line of `meta_info.txt`; `channels` is None where it does not tell."""

    key: str
    place: str
    size: Size
    channels: int | None

    def problem(self, image: Image.Image) -> str | None:
        """Return what the line says wrongly of the image."""
        (width, height), channels = upright_size(image), _CHANNELS.get(image.mode)
        told, true = [*self.size, self.channels or channels], [width, height, channels or self.channels]
        if told == true:
            return None
        return (
            f"{self.place} says {_format(told)}, but {self.key} is {_format(true)}; correct it, or make the LMDB again"
        )


def read_lmdb_sizes(root: Path, *, lenient: bool = False) -> dict[str, Size]:
    """Return the sizes by key, after checking that each line's image is there and is as the line says, by its header.

    Args:
        root: The LMDB.
        lenient: Whether images whose header cannot be read pass, with the size that the line says.

    Raises:
        ValueError: Something cannot be read, or is not as `meta_info.txt` says.
    """
    entries = _read_entries(root / "meta_info.txt")
    with _reading(root) as transaction:
        values = {entry.key: transaction.get(entry.key.encode()) for entry in entries}
        if missing := [key for key, value in values.items() if value is None]:
            raise ValueError(f"{root} lacks {first_names(missing)} of its meta_info.txt; make it again")
        for entry in entries:
            _check_head(entry, values[entry.key], root, lenient=lenient)
    return {entry.key: entry.size for entry in entries}


def _check_head(entry: _Entry, value: memoryview, root: Path, *, lenient: bool) -> None:
    try:
        with large_metadata(), _open_head(value) as image:
            problem = entry.problem(image)
    except Exception as error:  # Pillow's parsers raise many kinds on damaged headers
        if lenient:
            return
        bomb = isinstance(error, Image.DecompressionBombError)
        told = "has more pixels than are decoded; cut it into parts" if bomb else "is not an image, or a damaged one"
        raise ValueError(f"{root}: '{entry.key}' {told}; make it again") from error
    if problem:
        raise ValueError(problem)


def _open_head(value: memoryview) -> Image.Image:
    try:
        return Image.open(io.BytesIO(value[:_HEAD]))
    except Exception:  # there may be more before the size
        return Image.open(io.BytesIO(value))


def _read_entries(path: Path) -> list[_Entry]:
    entries: dict[str, _Entry] = {}
    for number, line in enumerate(read_text_lines(path), 1):
        entry = _read_line(line, f"{path}:{number}")
        if entry.key in entries:
            raise ValueError(
                f"{entry.place}: '{entry.key}' is listed already, in {entries[entry.key].place}; remove one"
            )
        entries[entry.key] = entry
    if not entries:
        raise ValueError(f"{path} is empty; make the LMDB again")
    return list(entries.values())


def _read_line(line: str, place: str) -> _Entry:
    match = _LINE.fullmatch(line)
    if match is None or not is_below(match[1]):
        raise ValueError(f"{place}: '{line}' is not like 'name.png (480,480,3) 1'")
    return _Entry(match[1], place, (int(match[3]), int(match[2])), int(match[4]) if match[4] else None)


def read_lmdb_keys(root: Path) -> set[bytes]:
    """Return an LMDB's keys, without reading its values.

    Raises:
        ValueError: The LMDB cannot be read, or is truncated.
    """
    with _reading(root) as transaction:
        return {bytes(key) for key in transaction.cursor().iternext(values=False)}


@contextmanager
def _reading(root: Path) -> Iterator[Any]:
    """Open an LMDB; values are views of the mapped file, of which only what is looked at is read from the disk."""
    try:
        env = open_lmdb(root)
        if (root / "data.mdb").stat().st_size < (env.info()["last_pgno"] + 1) * env.stat()["psize"]:
            raise lmdb.Error("truncated")  # LMDB maps the file: to read beyond its end would kill the process
        with env.begin(buffers=True) as transaction:
            yield transaction
    except (OSError, lmdb.Error) as error:
        raise ValueError(f"{root}/data.mdb cannot be read: {error}; make the LMDB again") from error


def _format(size: list[int | None]) -> str:
    return "x".join(str(each) for each in size if each is not None)
