"""Registry of the weights shipped with this package; `semanir_plugin/weights/README.md` is their card."""

from __future__ import annotations

import os
from pathlib import Path

from semanir_plugin.errors import UserError, near_match

__all__ = ["find_weights", "shipped_file", "shipped_weights"]

FOLDER = Path(__file__).parents[1] / "weights"


def shipped_weights() -> dict[str, Path]:
    """Return the files of the shipped weights by their names."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"))}


def shipped_file(name: str | Path) -> Path | None:
    """Return the file of the shipped weights of a name; None where there is a file of that name, or no such weights."""
    return None if _is_there(Path(name)) else shipped_weights().get(str(name))


def find_weights(name: str | Path) -> Path:
    """Return the file or folder of weights: of a path, or of the name of shipped weights.

    Raises:
        UserError: There is neither; the message lists the names.
    """
    path, shipped = Path(os.path.expanduser(name)), shipped_weights()
    if _is_there(path) or _is_there(path / "config.json"):
        return path
    if str(name) in shipped:
        return shipped[str(name)]
    if os.path.isdir(path):
        raise UserError(f"{path}: a folder without a config.json; name the file of weights in it")
    near = near_match(str(name), shipped)
    hint = f"; did you mean '{near}'?" if near else ""
    known = f"names: {', '.join(shipped)}" if shipped else "no weights come with this version, so name a file"
    raise UserError(f"no file and no weights '{name}'{hint}; {known}")


def _is_there(path: Path) -> bool:
    return os.path.isfile(path)  # False also of what no file can be called, where `Path.is_file` raises an OSError
