"""Atomic writes: a crash leaves no partial file."""

from __future__ import annotations

import errno
import glob
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["open_atomic", "remove_unfinished", "save_atomic", "write_atomic"]


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


@contextmanager
def open_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to be written in parts: when left it is complete or, after any failure, what it was before.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # a failing write does not say of what
        raise
    finally:
        temporary.unlink(missing_ok=True)


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
    """Remove partial files, of one name or all, that a killed process left in a folder; nobody may be writing them."""
    start = f".{glob.escape(name)}." if name else "."
    for path in Path(folder).glob(f"{start}*.tmp"):
        path.unlink(missing_ok=True)
