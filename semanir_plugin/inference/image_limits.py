"""Limits on the size of images: a file of some kilobytes can stand for gigabytes of equal pixels."""

from __future__ import annotations

import io

from PIL import Image

__all__ = ["check_pixels"]

_PNG = b"\x89PNG\r\n\x1a\n"
_HEAD, _CHECKSUM = 8, 4  # bytes of a PNG's parts before and behind their data


def check_pixels(content: bytes) -> None:
    """Refuse an image of more pixels than Pillow decodes, by its header; what Pillow does not know is left to others.

    OpenCV decodes six times as many, and takes the memory for them before it looks at the data; so it does for parts of
    a PNG, whose lengths are compared with what there is.

    Raises:
        ValueError: It has too many, or is a PNG that ends within a part.
    """
    if content.startswith(_PNG):
        _check_parts(content)
    try:
        Image.open(io.BytesIO(content)).close()
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image has more pixels than are decoded: {error}; cut it into parts") from error
    except Exception:  # Pillow's parsers raise many kinds on damaged headers; the decoder tells what is wrong
        return


def _check_parts(png: bytes) -> None:
    """Refuse a PNG with a chunk of more bytes than are left."""
    start = len(_PNG)
    while start + _HEAD <= len(png):
        length, kind = int.from_bytes(png[start : start + 4], "big"), png[start + 4 : start + _HEAD]
        start += _HEAD + length + _CHECKSUM
        if start > len(png):
            raise ValueError("the image cannot be decoded; replace it or take it out of the dataset")
        if kind == b"IEND":
            return
