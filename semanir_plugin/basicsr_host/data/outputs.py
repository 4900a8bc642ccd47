"""Checks of output folders and LMDBs before they are replaced: nothing of others may be lost."""

from __future__ import annotations

import os
from pathlib import Path

from semanir_plugin.errors import UserError

__all__ = ["check_own", "remove_tree"]

_LMDB_FILES = {"data.mdb", "lock.mdb", "meta_info.txt"}


def check_own(folder: Path) -> None:
    """Refuse a folder, if it is there, that holds anything but PNG files, or by its name the files of an LMDB.

    Raises:
        UserError: It does, or it is no folder.
    """
    if folder.is_dir() and not folder.is_symlink():
        found = sorted(folder.iterdir())
        foreign = [path for path in found if path.is_dir() or not _is_own_name(path.name, folder)]
    else:
        foreign = [folder] if os.path.lexists(folder) else []
    if foreign:
        raise UserError(f"{foreign[0]} is in the way of what would be written; move it or choose another folder")


def remove_tree(path: Path) -> None:
    """Remove a folder, if it is there, that `check_own` passes.

    Raises:
        UserError: It holds something else; nothing is removed then.
    """
    check_own(path)
    if path.is_dir():
        for child in path.iterdir():
            child.unlink()
        path.rmdir()


def _is_own_name(name: str, folder: Path) -> bool:
    return name in _LMDB_FILES if folder.suffix == ".lmdb" else name.endswith(".png")
