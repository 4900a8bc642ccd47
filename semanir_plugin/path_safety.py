"""Validation of untrusted names: which can name a file, whether a path stays in its folder, and what is too long."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from semanir_plugin.errors import UserError

__all__ = ["can_name_file", "check_fits", "check_folder", "check_inside", "check_ordinary", "check_target"]

_LONGEST_NAME = 200  # bytes; file systems take 255, of which endings and temporary names need some


def can_name_file(name: object) -> bool:
    """Return whether something is the name of a single file or folder: no path that leads elsewhere, all printable."""
    if not isinstance(name, str) or not name.isprintable() or not name.strip(". "):
        return False
    return not any(separator in name for separator in "/\\") and len(name.encode()) <= _LONGEST_NAME


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a path below a folder from which a link on the way leads out.

    Raises:
        UserError: One does.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: a link there leads out of {folder}; remove it, or choose another folder")


def check_ordinary(path: str | os.PathLike[str], cure: str = "remove or replace it") -> None:
    """Refuse a device, which may have no end, a pipe, which would be waited for, and a link to what is not there.

    Raises:
        UserError: It is one.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if os.path.islink(path):
            raise UserError(f"{path}: is a link that leads to no file ({error.strerror}); {cure}") from error
        return  # reading it says so
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path}: is a pipe or a device, no ordinary file; {cure}")


def check_fits(path: Path, cure: str = "choose a shorter name") -> None:
    """Refuse a path that is too long for its file system, or has a part that is, whether its folders are there or not.

    Raises:
        UserError: It is.
    """
    whole = path.absolute()
    folder = next(each for each in whole.parents if os.path.exists(each))
    if any(map(_is_too_long, (whole, *(folder / part for part in whole.relative_to(folder).parts)))):
        raise UserError(f"{path}: {os.strerror(errno.ENAMETOOLONG)}; {cure}")


def _is_too_long(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def check_folder(folder: Path) -> None:
    """Make a folder, before any work, that something is to be written to.

    Raises:
        UserError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"{folder}: cannot write there: {error.strerror}; choose another folder") from error


def check_target(path: Path) -> None:
    """Refuse, before any work, the name of a single file that cannot be written.

    Raises:
        UserError: Its folder is not there or cannot be written to, the name is too long, or it is that of a folder, a
            pipe or a device.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it, or choose another")
    check_fits(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is a pipe or a device, no ordinary file; choose another name")
    if not os.access(path.parent, os.W_OK):
        why = "a read-only file system" if _is_read_only(path.parent) else os.strerror(errno.EACCES)
        raise UserError(f"{path}: cannot be written there ({why}); choose another folder")


def _is_read_only(folder: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
