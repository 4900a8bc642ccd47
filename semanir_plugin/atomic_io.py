"""Atomic writes: a crash leaves no partial file."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # on Windows, where a file that is open cannot be removed either
    fcntl = None  # type: ignore[assignment]

__all__ = ["move_into_place", "open_atomic", "remove_unfinished", "save_atomic", "write_atomic", "write_together"]

_LONGEST_START = 100  # bytes; encrypted file systems take names of 143, others of 255
_DAY = 24 * 60 * 60  # seconds


def save_atomic(obj: Any, path: str | Path) -> None:
    """Save with `torch.save`: the file is complete or, after any failure, what it was before.

    The file is a ZIP archive, which holds a checksum of each of its parts; `inference.safe_loading` compares them.

    Raises:
        OSError: The file cannot be written.
    """
    import torch  # which commands that write text can do without

    with open_atomic(path) as file:
        try:
            torch.save(obj, file)
        except RuntimeError as error:  # torch's, of how much was written, in place of the reason
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write_atomic(content: bytes, path: str | Path) -> None:
    """Write a file: it is complete or, after any failure, what it was before.

    Raises:
        OSError: The file cannot be written.
    """
    with open_atomic(path) as file:
        file.write(content)


def write_together(contents: Mapping[str | Path, bytes]) -> None:
    """Write files of which the first names the others: it is never there beside others than its own.

    A failure leaves all as they were; a kill between two renamings leaves none by the first one's name.

    Raises:
        OSError: One cannot be written.
    """
    first = next(iter(contents))
    with ExitStack() as opened:
        files = [(opened.enter_context(open_atomic(path)), content) for path, content in contents.items()]
        for file, content in files:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if len(files) > 1:
            Path(first).unlink(missing_ok=True)
        # They get their names as they are left, the first one last.


@contextmanager
def open_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to be written in parts: when left it is complete or, after any failure, what it was before.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        temporary, opened = _open_held(path)
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:
                temporary.replace(path)  # while it is held
        if fcntl is None:
            temporary.replace(path)  # Windows renames no open files
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # a failing write does not say of what
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def move_into_place(finished: Path, path: Path) -> None:
    """Give a finished file, of the same file system, another name: what has that is the old content or the new.

    Raises:
        OSError: It cannot be moved.
    """
    with finished.open("rb+") as file:
        os.fsync(file.fileno())
    finished.replace(path)
    _sync_folder(path.parent)


def _open_held(path: Path) -> tuple[Path, BinaryIO]:
    """Open a temporary file for another, locked until it is closed, so that nobody takes it for what a killed one left.

    The lock is the system's and ends with the process, however that ends.
    """
    while True:
        temporary = path.with_name(f"{_start(path.name)}{os.getpid()}.{secrets.token_hex(4)}.tmp")
        file = temporary.open("xb")
        if _lock(file) is not False and temporary.exists():
            return temporary, file
        file.close()  # between the two calls it was found without a lock, and removed


def _start(name: str) -> str:
    """Return how the temporary files for a name begin; they are within the limit of file systems where that is."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_START:
        return f".{name}."
    beginning = encoded[: _LONGEST_START - 17].decode(errors="ignore")
    return f".{beginning}-{hashlib.sha256(encoded).hexdigest()[:16]}."


def _lock(file: BinaryIO) -> bool | None:
    """Lock a file for this process; return whether it is, and None where nothing can be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new name survives a power cut as the file's content does."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # what file systems of networks say that sync no folders
            raise
    finally:
        os.close(descriptor)


def remove_unfinished(folder: str | Path, name: str | None = None) -> None:
    """Remove partial files, of one name or all, that a killed process left in a folder.

    Those that a process still writes are left alone, on any host that shares the folder and its locks. Where nothing
    can be locked, those are removed that nobody has written to for a day.
    """
    start = "." if name is None else glob.escape(_start(name))
    for path in Path(folder).glob(f"{start}*.tmp"):
        with suppress(OSError):  # it is another user's, or, on Windows, in use
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    if path.is_symlink():
        return  # nothing here makes those
    with path.open("r+b") as file:
        locked = _lock(file)
        left = time.time() - os.fstat(file.fileno()).st_mtime > _DAY if locked is None else locked
        if left and fcntl is not None:
            path.unlink()
    if left and fcntl is None:
        path.unlink()
