"""Hostile files, and what a command may do about them: refuse in one line, and touch nothing else."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import torch


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


class Evaluated(Payload):
    """The same by Python's own means."""

    def __reduce__(self):
        return eval, (f"open({str(self.witness)!r}, 'w')",)


def as_zip(payload: object) -> bytes:
    return _saved(payload)


def as_legacy(payload: object) -> bytes:
    return _saved(payload, _use_new_zipfile_serialization=False)


def as_pickle(payload: object) -> bytes:
    return pickle.dumps(payload)


def as_tar(payload: object) -> bytes:
    """The oldest format of torch's, whose reader once unpickled whatever `weights_only` said."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(payload)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _saved(content: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_bomb(width: int = 14_000, height: int = 14_000, *, pixels: bool = False) -> bytes:
    """A black PNG of some kilobytes; complete, as far as its ends tell."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = bytes(1 + (width + 7) // 8)
    packed = zlib.compressobj()
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush() if pixels else zlib.compress(row)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def told(capsys) -> list[str]:
    """The lines on stderr, but for the log's."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if not any(level in line for level in (" INFO: ", " WARNING: "))]


def assert_refused(capsys, code: int, *words: str) -> None:
    """Assert exit code 2 and one line with these words."""
    lines = told(capsys)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines[0]
