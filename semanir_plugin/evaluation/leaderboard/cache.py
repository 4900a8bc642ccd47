"""Cache of a leaderboard's results, image by image, so that a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2

from semanir_plugin.atomic_io import remove_unfinished, write_atomic
from semanir_plugin.errors import UserError
from semanir_plugin.path_safety import check_inside
from semanir_plugin.pixels import Image

__all__ = ["Cache", "are_numbers"]

_DIGITS = 12

Check = Callable[[Mapping[str, Any]], bool]


def are_numbers(values: Any, names: Iterable[str]) -> bool:
    """Return whether values are numbers under the very names."""
    if not isinstance(values, dict) or values.keys() != set(names):
        return False
    return all(isinstance(value, int | float) for value in values.values())


@dataclass(frozen=True)
class Cache:
    """Records under a folder, each in a file of its own, complete or not there at all.

    A record counts while it and every image that belongs to it are as they were written.

    Attributes:
        folder: Of the results; records lie in its `cache`, images where they say.
    """

    folder: Path

    @staticmethod
    def key(*hashes: str, protocol: str) -> str:
        """Return the name of a cell: of model, checkpoint, test set and protocol."""
        return "-".join((*(each[:_DIGITS] for each in hashes), protocol))

    def load(self, key: str, name: str, is_right: Check = lambda record: True) -> dict[str, Any] | None:
        """Return a record; None where it is not there, is damaged, lacks an image, or is not what `is_right` asks for.

        Whoever made a folder of results could compute checksums, too.
        """
        try:
            record = json.loads(self._path(key, name).read_text(encoding="utf-8"))
            intact = record.pop("sha256") == self._checksum(key, name, record)
            intact = intact and all(self._digest(path) == digest for path, digest in record["files"].items())
            return record if intact and is_right(record) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
            return None

    def holds(self, key: str, name: str) -> bool:
        """Return whether a record is there, be it damaged."""
        return self._path(key, name).exists()

    def save(
        self, key: str, name: str, record: Mapping[str, Any], images: Mapping[str, Image] = MappingProxyType({})
    ) -> None:
        """Write images, by paths below the folder, and then their record.

        Raises:
            OSError: Something cannot be written.
        """
        files = {}
        for path, image in images.items():
            content = cv2.imencode(".png", image)[1].tobytes()
            self._write(self.folder / path, content)
            files[path] = hashlib.sha256(content).hexdigest()
        whole = {**record, "files": files}
        text = json.dumps({**whole, "sha256": self._checksum(key, name, whole)}, indent=1)
        self._write(self._path(key, name), text.encode())

    def _path(self, key: str, name: str) -> Path:
        return self.folder / "cache" / key / f"{name}.json"

    @staticmethod
    def _checksum(key: str, name: str, record: Mapping[str, Any]) -> str:
        """Return the hash of a record and of its place, so that none counts in another's."""
        return hashlib.sha256(json.dumps([key, name, record], sort_keys=True).encode()).hexdigest()

    def _digest(self, path: str) -> str:
        file = self.folder / path
        check_inside(file, self.folder)
        if not file.is_file():  # a pipe or a device could be read for ever
            raise ValueError(f"{file} is no file")
        return hashlib.sha256(file.read_bytes()).hexdigest()

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent, path.name)
        write_atomic(content, path)
