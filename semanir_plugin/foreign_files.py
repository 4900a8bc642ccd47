"""Recognition of what is often there in place of a checkpoint, an image or an option file, by its first bytes."""

from __future__ import annotations

import re

__all__ = ["HEAD", "foreign_kind"]

HEAD = 512
"""Bytes that `foreign_kind` looks at; the mark of tar archives lies at 257."""

_UNPACK = "unpack it, and name the file in it"
_EXPORTED = "name the .pth or .safetensors file that it was made from"
_NAME_FILM = "give its name the ending of one, such as"

_KINDS = {
    r"\Z": "has 0 bytes; download or save it again",
    r"\0{64}": "begins with zeros, as what was broken off does; download or save it again",
    r"version https://git-lfs": "is a pointer of Git LFS in place of the file; fetch that: git lfs pull",
    r"\s*(?:<!--.{0,200}?-->\s*)?(?i:<!doctype html|<html|<head|<body)": (
        "is a web page in place of the file; download that by its own link (of GitHub and Hugging Face, the raw one)"
    ),
    r"\s*<\?xml": "is XML, as servers answer in place of the file; download that again",
    r'\s*\{\s*"': "is JSON, as servers answer in place of the file; download that again",
    r"\x1f\x8b": f"is compressed by gzip; {_UNPACK}",
    r"\xfd7zXZ\0": f"is compressed by xz; {_UNPACK}",
    r"BZh[1-9]": f"is compressed by bzip2; {_UNPACK}",
    r"\x28\xb5\x2f\xfd": f"is compressed by Zstandard; {_UNPACK}",
    r"7z\xbc\xaf\x27\x1c": f"is a 7z archive; {_UNPACK}",
    r"Rar!": f"is a RAR archive; {_UNPACK}",
    r".{257}ustar": f"is a tar archive; {_UNPACK}",
    r"\x89HDF\r\n": f"is an HDF5 file, as Keras and MATLAB write; {_EXPORTED}",
    r"GGUF": f"is a GGUF file; {_EXPORTED}",
    r"\x93NUMPY": "is a NumPy array; save tensors by torch.save",
    r"\x08[\x01-\x20][\x12:]": f"is an ONNX model; {_EXPORTED}",
    r".{4}ftyp(?:isom|iso[2-6]|mp4[12]|avc1|M4V |qt  )": f"is a film; {_NAME_FILM} .mp4",
    r"\x1a\x45\xdf\xa3": f"is a film; {_NAME_FILM} .mkv",
    r".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)": "is a HEIC photograph; convert it to JPEG or PNG",
}
_PATTERN = re.compile("|".join(f"({pattern})" for pattern in _KINDS).encode("latin-1"), re.DOTALL)
_TOLD = tuple(_KINDS.values())


def foreign_kind(head: bytes) -> str | None:
    """Return what a file is and what to do about it, such as "is a pointer of Git LFS ...", by its first bytes.

    None is returned of what may be a checkpoint, an image or an option file, were it only a damaged one.
    """
    found = _PATTERN.match(head[:HEAD])
    return _TOLD[found.lastindex - 1] if found and found.lastindex else None
