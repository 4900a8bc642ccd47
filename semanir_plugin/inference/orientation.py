"""Orientation of image files: one rule for all readers, whatever their decoder does of its own accord."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from PIL import Image

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
    version, unless it is told to leave them; Pillow none. Only the head of the file is read: an EXIF chunk behind the
    pixels of a PNG does not count.
    """
    if image.format == "TIFF":
        return 1
    try:
        value = Image.Image.getexif(image).get(ORIENTATION)  # a PNG's own decodes the pixels, to look behind them
    except Exception:  # cameras write what they like; the picture is worth more
        return 1
    return value if value in _TURNS else 1


def turn_upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return (H, W, ...) pixels of an orientation upright: a view of them."""
    return _TURNS[orientation](samples)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height of a file's image when it is upright."""
    width, height = image.size
    return (height, width) if orientation_of(image) >= _ON_ITS_SIDE else (width, height)
