"""What TIFF files say beside their pixels, whether or not Pillow has a mode for these.

TIFF 6.0 (Adobe, 1992), page 38: `ResolutionUnit`; TIFF Technical Note 4 and EXIF 2.3, section 4.6.2, for the others.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from semanir_plugin.inference.photographs import Metadata

__all__ = ["TIFF", "read_tiff_metadata", "read_tiff_tags"]

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF files begin, of four gigabytes at most and of more."""

_ICC, _XMP, _IPTC = 34675, 700, (33723, 34377)
_EXIF = (34665, 34853)  # its folders of exposure and of place
_TEXTS = (270, 271, 272, 315, 33432)  # description, maker, model, artist, copyright
_ACROSS, _DOWN, _UNIT = 282, 283, 296
_PER_INCH = {2: 1.0, 3: 2.54}  # of a unit


def read_tiff_tags(content: bytes) -> Mapping[int, Any]:
    """Return the tags of a file's first page by their numbers; none of a damaged file."""
    try:
        file = io.BytesIO(content)
        tags = ImageFileDirectory_v2(file.read(16 if content[2:3] == b"+" or content[3:4] == b"+" else 8))
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except Exception:  # Pillow's parser raises many kinds on damaged files; the decoder tells what is wrong
        return {}


def read_tiff_metadata(content: bytes) -> Metadata:
    """Return what a file says of its pixels, and the names of what it says besides, which is not kept."""
    tags = read_tiff_tags(content)
    found = {
        "EXIF": any(tag in tags for tag in _EXIF),
        "texts": any(_tells(tags.get(tag)) for tag in _TEXTS),
        "IPTC": any(tag in tags for tag in _IPTC),
        "XMP": _XMP in tags,
    }
    icc = tags.get(_ICC)
    return Metadata(
        icc=icc if isinstance(icc, bytes) and icc else None,
        dpi=_resolution(tags),
        unkept=tuple(name for name, there in found.items() if there),
    )


def _tells(text: Any) -> bool:
    return bool(text) and not str(text).startswith('{"shape":')  # with which tifffile describes what it writes


def _resolution(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Return pixels per inch, across and down, where a file tells them; Pillow takes 1 where it does not."""
    try:
        scale = _PER_INCH[tags.get(_UNIT, 2)]
        return float(tags[_ACROSS]) * scale, float(tags[_DOWN]) * scale
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
