"""Texts of PNG files that repeat what EXIF says: orientation and size of the stored pixels."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

from semanir_plugin.inference.png_chunks import Chunk

__all__ = ["texts_of_size"]

LARGEST_XMP = 16 << 20  # bytes

_RAW_EXIF = b"Raw profile type exif\0"  # ImageMagick's, before PNG had a chunk for it
_XMP = b"XML:com.adobe.xmp\0"
_PACKED = b"\1\0"  # by zlib, of an iTXt

# As attributes and as elements, `tiff:Orientation="6"` and `<tiff:Orientation>6<`.
_VALUES = re.compile(rb"((?:tiff:(Orientation|ImageWidth|ImageLength)|exif:Pixel([XY])Dimension)(?:=[\"']|>))\d+")


def texts_of_size(texts: Iterable[Chunk], width: int, height: int) -> Iterator[Chunk]:
    """Yield texts as they are true of an upright image of a size; EXIF, which has a chunk of its own, is left out."""
    sizes = {b"Orientation": 1, b"ImageWidth": width, b"X": width, b"ImageLength": height, b"Y": height}

    def tell(match: re.Match[bytes]) -> bytes:
        return match[1] + b"%d" % sizes[match[2] or match[3]]

    for kind, data in texts:
        if data.startswith(_XMP):
            yield kind, _VALUES.sub(tell, _unpack(kind, data))
        elif not data.startswith(_RAW_EXIF):
            yield kind, data


def _unpack(kind: bytes, data: bytes) -> bytes:
    """Return an iTXt with its text as it is; others, and what cannot be unpacked, stay."""
    start = len(_XMP)
    if kind != b"iTXt" or not data.startswith(_PACKED, start):
        return data
    language, _, rest = data[start + 2 :].partition(b"\0")
    translated, _, packed = rest.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, LARGEST_XMP)
    except zlib.error:
        return data
    return data if unpacker.unconsumed_tail else b"".join((_XMP, b"\0\0", language, b"\0", translated, b"\0", text))
