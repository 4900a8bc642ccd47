"""The chunks of PNG files: what they say beside their pixels.

PNG (Portable Network Graphics) Specification, Third Edition, W3C 2025, sections 5 and 11.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["PNG", "Chunk", "kept_chunks", "read_chunks", "resolution_chunk"]

PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""

Chunk = tuple[bytes, bytes]  # its four letters and its data

# What the samples mean, beside a colour profile, and texts; an editor may keep a whole workflow in these.
_COLOURS = (b"cICP", b"mDCV", b"cLLI", b"gAMA", b"cHRM", b"sRGB")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_HEAD, _CHECKSUM = 8, 4  # bytes before and behind a chunk's data
_INCH = 0.0254  # metres


def read_chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG file up to its end; of image data the letters alone.

    Raises:
        ValueError: The file ends within a chunk.
    """
    start = len(PNG)
    while start + _HEAD <= len(content):
        length, kind = int.from_bytes(content[start : start + 4], "big"), content[start + 4 : start + _HEAD]
        end = start + _HEAD + length
        if end + _CHECKSUM > len(content):
            raise ValueError("the image cannot be decoded; replace it or take it out of the dataset")
        yield kind, b"" if kind == b"IDAT" else content[start + _HEAD : end]
        if kind == b"IEND":
            return
        start = end + _CHECKSUM


def kept_chunks(content: bytes) -> tuple[tuple[Chunk, ...], tuple[Chunk, ...]]:
    """Return the chunks that stay true of a restored image: those of its colours, and texts."""
    chunks = list(read_chunks(content))
    colours, texts = ([each for each in chunks if each[0] in kinds] for kinds in (_COLOURS, _TEXTS))
    return tuple(colours), tuple(texts)


def resolution_chunk(dpi: tuple[float, float]) -> Chunk:
    """Return the chunk that tells a resolution in pixels per inch, across and down."""
    across, down = (round(each / _INCH).to_bytes(4, "big") for each in dpi)
    return b"pHYs", across + down + b"\1"
