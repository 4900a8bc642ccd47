"""Load PyTorch's checkpoints safely: checked for damage, and without running code that they may hold."""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from semanir_plugin.errors import UserError, first_names
from semanir_plugin.foreign_files import HEAD, foreign_kind
from semanir_plugin.inference.pickle_calls import Calls
from semanir_plugin.inference.pickle_limits import check_pickle
from semanir_plugin.path_safety import check_ordinary

__all__ = ["check_kind", "load_checkpoint"]

TRUSTED = "SEMANIR_UNPICKLE"

NAME_WEIGHTS = "name the file of weights that it was made from"

_logger = logging.getLogger(__name__)


def load_checkpoint(path: str | Path) -> Any:
    """Load a file of tensors and plain values to the CPU.

    Only of files that the environment variable `SEMANIR_UNPICKLE` names, separated as in PATH, is code executed. Those
    may describe and unpack to whatever they like.

    Raises:
        UserError: It is not there, cannot be read, unpacks to more than its size, holds objects that only running code
            would bring back, describes more than `pickle_limits` allows, or is not as it was written.
    """
    trusted = str(path) in filter(None, os.environ.get(TRUSTED, "").split(os.pathsep))
    if trusted:
        _logger.warning(f"{path}: {TRUSTED} names it, so the code in it is executed.")
    try:
        if not trusted:  # its code may fill the memory as it likes
            check_kind(path)
            _check_packing(path)
            _check_content(path)
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


def check_kind(path: str | Path) -> None:
    """Refuse what is known to be no checkpoint, saying what it is: a page of a server, an archive, a whole model.

    Raises:
        UserError: It is such.
        OSError: It cannot be opened.
    """
    check_ordinary(path, "name the file of weights")
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if told := _other_format(path, head):
        raise UserError(f"{path}: {told}")


def _other_format(path: str | Path, head: bytes) -> str | None:
    """Return what to do about a file of weights of another format than its name says, or than torch's."""
    named_safetensors = Path(path).suffix == ".safetensors"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path):
        return None if named_safetensors else "is a safetensors file; call it .safetensors"
    if head.startswith((b"PK\3\4", b"\x80\x02")) and named_safetensors:
        return "is a file of torch.save's; call it .pth"
    return _other_archive(path) if head.startswith(b"PK\3\4") else foreign_kind(head)


def _other_archive(path: str | Path) -> str | None:
    """Return what a ZIP archive is, if not torch's, and what to do about it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    ends = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in ends:
        return f"is a TorchScript program; {NAME_WEIGHTS}"
    if "archive_format" in ends:
        return f"is a program of torch.export's; {NAME_WEIGHTS}"
    if names and "data.pkl" not in ends:
        return f"is a ZIP archive without torch's data.pkl, of {first_names(names)}; unpack it, and name the file in it"
    return None


def _check_packing(path: str | Path) -> None:
    """Refuse a compressed archive, of which some kilobytes could fill the memory; torch compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > os.path.getsize(path):
            raise UserError(f"{path}: is compressed, which torch's files are not; unpack and save it again")


def _check_content(path: str | Path) -> None:
    """Refuse pickles that describe what nothing could print, compare, copy, hash or hold, before they are unpickled.

    Raises:
        UserError: One does.
        Exception: They are none.
    """
    calls = Calls(os.path.getsize(path))
    try:
        with open(path, "rb") as file:
            for pickle in _pickles(file):
                check_pickle(pickle, calls)
    except OverflowError as error:
        raise UserError(f"{path}: refused, since it describes {error}; save its tensors alone") from error


_LEGACY_PICKLES = 5  # a mark, a version, the system, the content and its storages; of torch before 1.6


def _pickles(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the pickles of a file, of the kind that torch takes it for: it looks at the first bytes, not the last."""
    zipped = file.read(4) == b"PK\3\4"
    file.seek(0)
    if zipped:
        with zipfile.ZipFile(file) as archive:
            members = [each for each in archive.infolist() if each.filename.lower().endswith(".pkl")]
            yield from (io.BytesIO(archive.read(each)) for each in members)
    elif not tarfile.is_tarfile(file):  # which torch does not unpickle
        file.seek(0)
        yield from itertools.repeat(file, _LEGACY_PICKLES)


def _damaged_part(path: str | Path) -> str | None:
    """Return the part of a checkpoint that differs from its stored checksum, if any does; torch does not check."""
    if not zipfile.is_zipfile(path):  # torch's format before 1.6 has no checksums
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        return "table of contents"
