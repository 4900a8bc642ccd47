"""Validation of untrusted names: which can name a file, and whether a path stays in its folder."""

from __future__ import annotations

from pathlib import Path

from semanir_plugin.errors import UserError

__all__ = ["can_name_file", "check_inside"]

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
