"""Writing and reading checkpoints so that a crash leaves no half a file and a stranger's file runs no code."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

from semanir_plugin.errors import UserError

__all__ = ["load_checkpoint", "save_atomic"]


def save_atomic(obj: Any, path: str | Path) -> None:
    """Save with `torch.save`: the file is complete or, after any failure, what it was before.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(obj, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> Any:
    """Load a file of tensors and plain values to the CPU.

    Raises:
        UserError: It is not there, cannot be read, or holds objects that only running code would bring back.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    except Exception as error:  # on arbitrary bytes torch raises KeyError, EOFError, RuntimeError, UnpicklingError ...
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise UserError(
                f"{path}: refused, since loading its '{refused[1]}' would execute code; save its tensors alone"
            ) from error
        raise UserError(f"{path}: not a PyTorch checkpoint, or a damaged one; download or save it again") from error
