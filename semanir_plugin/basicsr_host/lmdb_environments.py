"""LMDBs that a process reads from. The lmdb package refuses to open one twice: all who read share it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb

__all__ = ["open_lmdb"]

_File = tuple[int, int]
_environments: WeakValueDictionary[tuple[int, _File], lmdb.Environment] = WeakValueDictionary()
_lock = threading.Lock()


def _unlock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the process that was forked may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def open_lmdb(path: str | Path, **options: Any) -> lmdb.Environment:
    """Return an LMDB that is open for reading: the one that this process has open already, or a new one.

    It is closed once nothing refers to it: do not close it, another reader may have it. What a forked process has
    inherited is closed there and opened anew. A file that has taken the place of another is another LMDB.

    Args:
        path: Its folder; its file where `options` have `subdir=False`.
        **options: Of `lmdb.open`, which an LMDB that is open already does not heed.

    Raises:
        lmdb.Error: It cannot be opened.
    """
    file = _identity(Path(path))
    if file is None:
        return _open(path, options)  # which tells what is wrong
    key = os.getpid(), file
    with _lock:
        for (process, same), environment in list(_environments.items()):
            if same == file and process != key[0]:
                environment.close()
        opened = _environments.get(key)
        if opened is None:
            opened = _environments[key] = _open(path, options)
    return opened


def _open(path: str | Path, options: dict[str, Any]) -> lmdb.Environment:
    return lmdb.open(str(path), **{"readonly": True, "lock": False, "readahead": False, **options})


def _identity(path: Path) -> _File | None:
    try:
        status = (path / "data.mdb" if path.is_dir() else path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
