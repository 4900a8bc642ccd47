"""The chunks of PNG files: what they say beside their pixels.

PNG (Portable Network Graphics) Specification, Third Edition, W3C 2025, sections 5 and 11.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

__all__ = ["PNG", "Chunk", "check_pixel_data", "kept_chunks", "read_chunks", "resolution_chunk"]

PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""

Chunk = tuple[bytes, bytes]  # its four letters and its data

# What the samples mean, beside a colour profile, and texts; an editor may keep a whole workflow in these.
_COLOURS = (b"cICP", b"mDCV", b"cLLI", b"gAMA", b"cHRM", b"sRGB")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_HEAD, _CHECKSUM = 8, 4  # bytes before and behind a chunk's data
_INCH = 0.0254  # metres
_AT_ONCE = 1 << 20  # bytes that are unpacked
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the colour type
# Left and top of the first pixel of each pass of an interlaced image, and the steps to the next, across and down.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def read_chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG file up to its end; of image data the letters alone.

    Raises:
        ValueError: The file ends within a chunk.
    """
    for kind, start, end in _places(content):
        if end + _CHECKSUM > len(content):
            raise ValueError("the image cannot be decoded; replace it or take it out")
        yield kind, b"" if kind == b"IDAT" else content[start:end]
        if kind == b"IEND":
            return


def _places(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the letters of each chunk, and where its data begin and end, be that beyond the end of the file."""
    start = len(PNG)
    while start + _HEAD <= len(content):
        length, kind = int.from_bytes(content[start : start + 4], "big"), content[start + 4 : start + _HEAD]
        yield kind, start + _HEAD, start + _HEAD + length
        start += _HEAD + length + _CHECKSUM


def check_pixel_data(content: bytes) -> None:
    """Refuse a PNG whose data are complete, but of fewer pixels than its header says; Pillow makes the rest black.

    Raises:
        ValueError: It is one, or its data cannot be unpacked.
    """
    left, unpacker = _pixel_bytes(content), zlib.decompressobj()
    for kind, start, end in _places(content):
        packed = content[start:end] if kind == b"IDAT" else b""
        while packed and left > 0:
            try:
                left -= len(unpacker.decompress(packed, _AT_ONCE))
            except zlib.error as error:
                raise ValueError(f"cannot be decoded: {error}") from error
            packed = unpacker.unconsumed_tail
    if left > 0:
        raise ValueError("is damaged: it has fewer pixels than its header says")


def _pixel_bytes(content: bytes) -> int:
    """Return how many bytes the pixels of a PNG unpack to: each row has one more, for its filter."""
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    depth, kind, interlaced = content[24], content[25], content[28]
    bits = depth * _SAMPLES.get(kind, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def kept_chunks(content: bytes) -> tuple[tuple[Chunk, ...], tuple[Chunk, ...]]:
    """Return the chunks that stay true of a restored image: those of its colours, and texts."""
    chunks = list(read_chunks(content))
    colours, texts = ([each for each in chunks if each[0] in kinds] for kinds in (_COLOURS, _TEXTS))
    return tuple(colours), tuple(texts)


def resolution_chunk(dpi: tuple[float, float]) -> Chunk:
    """Return the chunk that tells a resolution in pixels per inch, across and down."""
    across, down = (round(each / _INCH).to_bytes(4, "big") for each in dpi)
    return b"pHYs", across + down + b"\1"
