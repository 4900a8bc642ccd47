"""Writing files so that a crash leaves no half of one, and reading checkpoints whole, running no code."""

from __future__ import annotations

import logging
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from semanir_plugin.errors import UserError

__all__ = ["load_checkpoint", "open_atomic", "remove_unfinished", "save_atomic", "write_atomic"]

TRUSTED = "SEMANIR_UNPICKLE"


def save_atomic(obj: Any, path: str | Path) -> None:
    """Save with `torch.save`: the file is complete or, after any failure, what it was before.

    The file is a ZIP archive, which holds a checksum of each of its parts; `load_checkpoint` compares them.

    Raises:
        OSError: The file cannot be written.
    """
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
    """Have a new name outlast a power cut, as the content does that it stands for."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: str | Path) -> None:
    """Remove what was half written to a folder when its process was killed; nothing may be writing there."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> Any:
    """Load a file of tensors and plain values to the CPU.

    Only of files that the environment variable `SEMANIR_UNPICKLE` names, separated as in PATH, is code executed.

    Raises:
        UserError: It is not there, cannot be read, unpacks to more than its size, holds objects that only running code
            would bring back, or is not as it was written.
    """
    trusted = str(path) in os.environ.get(TRUSTED, "").split(os.pathsep)
    if trusted:
        logging.getLogger("basicsr").warning(f"{path}: {TRUSTED} names it, so the code in it is executed.")
    try:
        _check_packing(path)
        content = torch.load(path, map_location="cpu", weights_only=not trusted)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    except Exception as error:  # on arbitrary bytes torch raises KeyError, EOFError, RuntimeError, UnpicklingError ...
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise UserError(
                f"{path}: refused, since loading its '{refused[1]}' would execute code; save its tensors alone, or, if "
                f"you trust whoever made it, set {TRUSTED}={path}"
            ) from error
        raise UserError(f"{path}: not a PyTorch checkpoint, or a damaged one; download or save it again") from error
    damaged = _damaged_part(path)
    if damaged:
        raise UserError(f"{path}: damaged, its {damaged} is not what was written; download or save it again")
    return content


def _check_packing(path: str | Path) -> None:
    """Refuse an archive that some kilobytes of would fill the memory; torch packs nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > os.path.getsize(path):
            raise UserError(f"{path}: is compressed, which torch's files are not; unpack and save it again")


def _damaged_part(path: str | Path) -> str | None:
    """Return what of a checkpoint differs from the checksum written with it, if anything does; torch does not look."""
    if not zipfile.is_zipfile(path):  # torch's format before 1.6 has no checksums
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        return "table of contents"
