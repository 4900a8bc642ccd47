"""Checks of output folders and LMDBs before they are replaced: nothing of others may be lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from semanir_plugin.errors import UserError

__all__ = ["check_own", "draft_of", "publish", "publishing", "remove_tree"]

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


def draft_of(target: Path) -> Path:
    """Return the folder that is written in place of the target, beside it, until it is complete."""
    return target.with_name(f".partial_{target.name}")


def publish(targets: Sequence[Path]) -> None:
    """Put the drafts of targets, where they are there, in their places.

    Old folders are moved aside before the first new one is in place. Killed at any moment, this leaves each folder
    whole or missing, and never a pair of an old and a new one; called again, it goes on.

    Raises:
        UserError: A target has been given a file that would be lost.
    """
    drafted = [target for target in targets if draft_of(target).is_dir()]
    replaced = [target.with_name(f".replaced_{target.name}") for target in targets]
    for target in drafted:
        check_own(target)
    for path in replaced:
        remove_tree(path)
    for target, path in zip(targets, replaced, strict=True):
        if target in drafted and target.is_dir():
            target.rename(path)
    for target in drafted:
        draft_of(target).rename(target)
    for path in replaced:
        remove_tree(path)


@contextmanager
def publishing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Give the path of a draft for each target: they are published if all goes well, and removed if not.

    Raises:
        UserError: There can be no such folders, or a file could not be written.
    """
    drafts = [draft_of(target) for target in targets]
    try:
        for draft in drafts:
            remove_tree(draft)
            draft.parent.mkdir(parents=True, exist_ok=True)
        yield drafts
        publish(targets)
    except OSError as error:
        folder = targets[0].parent
        raise UserError(f"{folder}: cannot write there: {error}; mend that or choose another folder") from error
    finally:
        for draft in drafts:
            remove_tree(draft)


def _is_own_name(name: str, folder: Path) -> bool:
    return name in _LMDB_FILES if folder.suffix == ".lmdb" else name.endswith(".png")
