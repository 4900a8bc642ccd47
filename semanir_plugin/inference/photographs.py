"""Photographs in memory: pixels of 8 or 16 bit, transparency, and what their files say beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semanir_plugin.inference.png_chunks import Chunk
from semanir_plugin.inference.png_texts import texts_of_size

__all__ = ["Metadata", "Photograph", "PhotographInBands"]


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says beside its pixels.

    Attributes:
        icc: The colour profile.
        exif: EXIF data, without an orientation.
        dpi: Pixels per inch, across and down.
        png_colours: Chunks of a PNG that say what its samples mean, beside a profile: gAMA, cICP and others.
        png_texts: Chunks of a PNG with texts.
        unkept: Names of what is kept in no file.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_colours: tuple[Chunk, ...] = ()
    png_texts: tuple[Chunk, ...] = ()
    unkept: tuple[str, ...] = ()

    def of_size(self, width: int, height: int) -> Metadata:
        """Return the metadata of an upright image of this size: EXIF and XMP tell it where they told one."""
        exif = None if self.exif is None else _resized(self.exif, width, height)
        return replace(self, exif=exif, png_texts=tuple(texts_of_size(self.png_texts, width, height)))


def _resized(exif: bytes, width: int, height: int) -> bytes:
    tags = Image.Exif()
    tags.load(exif)
    base, inner = Image.ExifTags.Base, tags.get_ifd(Image.ExifTags.IFD.Exif)
    for directory, across, down in (
        (tags, base.ImageWidth, base.ImageLength),
        (inner, base.ExifImageWidth, base.ExifImageHeight),
    ):
        for tag, size in ((across, width), (down, height)):
            if tag in directory:
                directory[tag] = size
    try:
        return tags.tobytes()
    except Exception:  # a tag that Pillow reads but cannot write
        return exif


@dataclass(frozen=True)
class Photograph:
    """A photograph, upright.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) gray, 8 or 16 bit, or floats in [0, 1].
        alpha: (H, W) opacity of the same depth; None: opaque.
        metadata: What its file says beside.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    metadata: Metadata = field(default_factory=Metadata)


@dataclass(frozen=True, kw_only=True)
class PhotographInBands:
    """A photograph as bands from top to bottom, so that it need never be in memory as a whole.

    Attributes:
        shape: (H, W, C): C of 1 is gray, of 3 RGB, one more the opacity.
        dtype: Of 8 or 16 bit, or float.
        bands: (h, W, C) each, whose h add up to H; they come once.
        metadata: What its file is to say beside.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    bands: Iterable[NDArray[Any]]
    metadata: Metadata = field(default_factory=Metadata)

    def gather(self) -> NDArray[Any]:
        """Return all bands as one, (H, W, C)."""
        whole, top = np.empty(self.shape, self.dtype), 0
        for band in self.bands:
            whole[top : top + len(band)] = band
            top += len(band)
        return whole

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """Yield the photograph in blocks of a number of rows; the last may have fewer."""
        rest = np.empty((0, *self.shape[1:]), self.dtype)
        for band in self.bands:
            joined = np.concatenate([rest, band]) if len(rest) else band
            whole = len(joined) // rows * rows
            yield from (joined[start : start + rows] for start in range(0, whole, rows))
            rest = joined[whole:]
        if len(rest):
            yield rest
