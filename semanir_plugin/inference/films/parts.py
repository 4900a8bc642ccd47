"""Parts of a film that is not finished, in a folder beside its result, which the same command goes on from.

Each part begins where decoding can begin, and is written as a whole or not at all. A file beside them says of which
source, network and settings they are; where any of these is another, they are made anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from torch import nn

from semanir_plugin.atomic_io import open_atomic, remove_unfinished, write_atomic
from semanir_plugin.errors import UserError
from semanir_plugin.inference.films.encoding import Coded
from semanir_plugin.inference.films.kinds import parts_folder

try:
    import fcntl
except ImportError:  # on Windows, where two commands at once are not told
    fcntl = None  # type: ignore[assignment]

__all__ = ["Parts", "fingerprint_of_file", "fingerprint_of_network"]

HEAD = struct.Struct("<qq?I")  # pts, duration, key, bytes
SAMPLES, SAMPLE = 64, 1 << 16  # of a source, and bytes of each
ENDING = ".part"


class Parts:
    """The parts of a film.

    Attributes:
        folder: Where they lie.
    """

    def __init__(self, target: Path, fingerprint: dict[str, str]) -> None:
        self.folder = parts_folder(target)
        self._fingerprint = fingerprint

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within the block, keep the folder for this process; parts of another source, network or settings go.

        Raises:
            UserError: Another process has it.
            OSError: It cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        ours = False
        try:
            with (self.folder / "lock").open("wb") as lock:
                _lock(lock, self.folder)
                ours = True
                self._begin()
                yield
        finally:
            if ours and not self._files():  # there is nothing to go on from
                shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self) -> None:
        remove_unfinished(self.folder)
        told = self.folder / "of.json"
        if _read(told) != self._fingerprint:
            self.clear()
            write_atomic(json.dumps(self._fingerprint, indent=1).encode(), told)

    @property
    def count(self) -> int:
        """How many pictures there are; parts behind a gap, or damaged, are removed."""
        done = 0
        for file in self._files():
            start, end = (int(each) for each in file.stem.split("-"))
            if start != done or sum(1 for _ in _packets(file)) != end - start:
                file.unlink()
            else:
                done = end
        return done

    def add(self, start: int, packets: Sequence[Coded]) -> None:
        """Write a part, whose first picture has a number.

        Raises:
            OSError: It cannot be written.
        """
        with open_atomic(self.folder / f"{start:09d}-{start + len(packets):09d}{ENDING}") as file:
            for each in packets:
                file.write(HEAD.pack(each.pts, each.duration, each.key, len(each.data)) + each.data)

    def packets(self) -> Iterator[Coded]:
        """Yield the coded pictures of all parts, in the order of decoding."""
        for file in self._files():
            yield from _packets(file)

    def clear(self) -> None:
        """Remove all parts; the folder goes when it is closed."""
        for part in self._files():
            part.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{ENDING}"))


def _packets(file: Path) -> Iterator[Coded]:
    """Yield the packets of a part, up to where it is damaged."""
    with file.open("rb") as part:
        while len(head := part.read(HEAD.size)) == HEAD.size:
            pts, duration, key, size = HEAD.unpack(head)
            data = part.read(size)
            if len(data) < size:
                return
            yield Coded(pts, duration, key, data)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _lock(file: BinaryIO, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"is being restored by another command, in {folder}; wait for its end") from error
    except OSError:
        pass  # a file system without locks


def fingerprint_of_file(path: Path) -> str:
    """Return a checksum of a file's size and of samples all over it, which a film of gigabytes has in a moment."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(max(0, size - SAMPLE) * number // (SAMPLES - 1))
            found.update(file.read(SAMPLE))
    return found.hexdigest()


def fingerprint_of_network(network: nn.Module) -> str:
    """Return a checksum of a network's weights and of what it is built of."""
    found = hashlib.sha256(repr(network).encode())
    for name, weights in network.state_dict().items():
        found.update(name.encode())
        found.update(weights.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return found.hexdigest()
