"""Orientation of image files: one rule for all readers, whatever their decoder does of its own accord."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO

from numpy.typing import NDArray
from PIL import Image

from semanir_plugin.inference.png_chunks import PNG

__all__ = ["ORIENTATION", "orientation_of", "turn_upright", "upright_size"]

ORIENTATION = 0x0112
"""EXIF's tag."""

_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {  # EXIF 2.3, table 4
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
_ON_ITS_SIDE = 5  # and above


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation that a file's decoded pixels still have, from 1, which is upright, to 8.

    TIFF is decoded upright by Pillow and OpenCV alike. Of the other formats OpenCV turns some, depending on its
    version, unless it is told to leave them; Pillow none. Of a PNG no pixels are read, though its EXIF may lie behind.
    """
    if image.format == "TIFF":
        return 1
    try:
        value = _exif_of(image).get(ORIENTATION)
    except Exception:  # cameras write what they like; the picture is worth more
        return 1
    return value if value in _TURNS else 1


def _exif_of(image: Image.Image) -> Image.Exif:
    file = getattr(image, "fp", None)
    if image.format == "PNG" and file is not None and "exif" not in image.info:
        behind = _find_chunk(file, b"eXIf")
        if behind is not None:
            exif = Image.Exif()
            exif.load(behind)
            return exif
    return Image.Image.getexif(image)  # a PNG's own decodes the pixels, to look behind them


def _find_chunk(file: BinaryIO, kind: bytes) -> bytes | None:
    """Return the data of the first chunk of a kind in a PNG file, by their heads; the file is left where it is."""
    place = file.tell()
    try:
        file.seek(len(PNG))
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[:4], "big")
            if head[4:] == kind:
                return file.read(length)
            file.seek(length + 4, os.SEEK_CUR)  # and its checksum
        return None
    finally:
        file.seek(place)


def turn_upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return (H, W, ...) pixels of an orientation upright: a view of them."""
    return _TURNS[orientation](samples)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height of a file's image when it is upright."""
    width, height = image.size
    return (height, width) if orientation_of(image) >= _ON_ITS_SIDE else (width, height)
