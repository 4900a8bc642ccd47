"""Write PNG files from top to bottom, so that only some rows of an image need be in memory.

PNG (Portable Network Graphics) Specification, Third Edition, W3C 2025: sections 5 (chunks), 9 (filters), 11 (kinds).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.inference.png_chunks import PNG, Chunk

__all__ = ["write_png"]

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # gray, gray with alpha, RGB, RGBA
LEVEL = 5  # of zlib; on photographs in half of the time, files within a percent of those of Pillow


def write_png(
    file: BinaryIO,
    blocks: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    chunks: Iterable[Chunk] = (),
) -> None:
    """Write an image that comes in blocks of rows, each of which is compressed at once.

    Args:
        file: File to write to.
        blocks: (h, W, C), from top to bottom; memory is a small multiple of the largest.
        shape: (H, W, C) of the image; C of 1 is gray, of 3 RGB, one more the opacity.
        dtype: Of 8 or 16 bit, unsigned.
        chunks: What else it says, before the pixels.
    """
    height, width, channels = shape
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    file.write(PNG)
    file.write(_chunk(b"IHDR", size + bytes([8 * dtype.itemsize, COLOUR_TYPES[channels], 0, 0, 0])))
    for kind, data in chunks:
        file.write(_chunk(kind, data))
    packer = zlib.compressobj(LEVEL)
    for rows in _filtered(blocks, width * channels * dtype.itemsize, channels * dtype.itemsize):
        packed = packer.compress(rows)
        if packed:
            file.write(_chunk(b"IDAT", packed))
    file.write(_chunk(b"IDAT", packer.flush()))
    file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _filtered(blocks: Iterable[NDArray[Any]], length: int, step: int) -> Iterator[bytes]:
    """Yield blocks as `length` bytes a row, filtered; of pixels of `step` bytes."""
    above: NDArray[np.uint8] = np.zeros((1, length), np.uint8)
    for block in blocks:
        big_endian = np.ascontiguousarray(block, block.dtype.newbyteorder(">"))
        rows = big_endian.view(np.uint8).reshape(len(block), length)
        yield _filter(rows, np.concatenate([above, rows[:-1]]), step).tobytes()
        above = rows[-1:]


def _filter(rows: NDArray[np.uint8], up: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return (h, 1 + n) bytes: each row's filter, that of the five with the smallest differences, and its output."""
    left, corner = (np.pad(each[:, :-step], ((0, 0), (step, 0))) for each in (rows, up))
    best, least = np.empty((len(rows), 1 + rows.shape[1]), np.uint8), np.full(len(rows), np.iinfo(np.int64).max)
    nothing = np.zeros_like(rows)
    for number, expected in enumerate((nothing, left, up, _average(left, up), _paeth(left, up, corner))):
        differences = rows - expected
        cost = np.minimum(differences, -differences).sum(1, dtype=np.int64)  # of signed bytes the absolute values
        better = cost < least
        best[better, 0], best[better, 1:] = number, differences[better]
        least = np.minimum(least, cost)
    return best


def _average(left: NDArray[np.uint8], up: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return ((left.astype(np.uint16) + up) >> 1).astype(np.uint8)


def _paeth(left: NDArray[np.uint8], up: NDArray[np.uint8], corner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return whichever of three neighbours is nearest to left + up - corner, the first of those equally near."""
    a, b, c = (each.astype(np.int16) for each in (left, up, corner))
    far_left, far_up, far_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    up_or_corner = np.where(far_up <= far_corner, up, corner)
    return np.where((far_left <= far_up) & (far_left <= far_corner), left, up_or_corner)
