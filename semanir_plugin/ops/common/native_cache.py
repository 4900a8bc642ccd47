"""Keep compiled kernels between processes, and trust no file that is damaged or that others could have written.

A kernel's file is named by what it was made of and by the SHA-256 of its own bytes. It is written whole and brought to
the disk before it has that name; what does not agree with its name when it is read is never loaded, and made again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from semanir_plugin.atomic_io import write_atomic

__all__ = ["find", "folders", "keep"]

NAME = "semanir_plugin"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def folders() -> tuple[list[Path], list[str]]:
    """Return the folders that kernels may be loaded from, the best first, and why others may not.

    The user's cache folder (XDG_CACHE_HOME, else ~/.cache), and one of the user's own among the temporary files.
    """
    trusted, objections = [], []
    for parent in (_cache_parent, _temporary_parent):
        try:
            trusted.append(_trusted(parent()))
        except (OSError, RuntimeError) as error:  # the latter without HOME and without an account
            objections.append(str(error))
    return trusted, objections


def find(folder: Path, key: str) -> Path | None:
    """Return the undamaged kernel that was kept for `key`, if there is one."""
    return next((path for path in sorted(folder.glob(f"{key}_*.so")) if _is_whole(path)), None)


def keep(library: bytes, folder: Path, key: str) -> Path:
    """Write a kernel, whole or not at all, in place of damaged ones.

    Raises:
        OSError: The folder cannot be written to.
    """
    path = folder / f"{key}_{_digest(library)}.so"
    write_atomic(library, path)
    for other in folder.glob(f"{key}_*.so"):
        if not _is_whole(other):
            other.unlink(missing_ok=True)
    return path


def _is_whole(path: Path) -> bool:
    try:
        return path.stem.endswith(f"_{_digest(path.read_bytes())}")
    except OSError:
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Nothing relative is taken: a stranger may have filled the working directory.
def _cache_parent() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"


def _temporary_parent() -> Path:
    temporary = os.environ.get("TMPDIR", "")
    return Path(temporary if os.path.isabs(temporary) else "/tmp")


def _trusted(parent: Path) -> Path:
    """Return this user's folder in `parent`, made if need be.

    Raises:
        OSError: It cannot be made, or someone else could write to it: what lies there would be run.
    """
    folder = parent / (f"{NAME}_{os.getuid()}" if _writable_by_all(parent) else NAME)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.lstat()
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid in (os.getuid(), 0) and not status.st_mode & OTHERS_WRITE
    if not mine or (_writable_by_all(parent) and not parent.stat().st_mode & stat.S_ISVTX):
        raise PermissionError(errno.EPERM, "others could write to it", str(folder))
    return folder


def _writable_by_all(folder: Path) -> bool:
    return folder.is_dir() and bool(folder.stat().st_mode & stat.S_IWOTH)
