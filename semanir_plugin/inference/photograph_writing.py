"""Writing of photographs, in bands where the format allows it, with what they say beside their pixels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semanir_plugin.inference.photographs import Metadata, PhotographInBands
from semanir_plugin.inference.png_chunks import resolution_chunk
from semanir_plugin.inference.png_stream import write_png

__all__ = ["FORMATS", "check_writable", "is_streamed", "lost_metadata", "write_photograph"]

FORMATS = {
    **{".bmp": "BMP", ".dib": "BMP", ".jfif": "JPEG", ".jpe": "JPEG", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG"},
    **{".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP", ".avif": "AVIF"},
}
"""Formats that can be written, by suffix."""

# Lossy formats: visibly no loss, at a size that a photograph may have. 4:4:4 keeps what was restored of the colours.
QUALITY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}

LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_536}  # in pixels, of libjpeg and of the formats
FOUR_GIB = 2**32 - 2**25  # bytes of pixels that BMP and classic TIFF hold, with room for heads and what zlib adds

BLOCK = 2**18  # bytes of rows that are rounded, filtered and compressed at once

# What each format holds of a photograph's metadata, beside pixels.
HELD = {
    "PNG": {"icc", "exif", "dpi", "png_colours", "png_texts"},
    "TIFF": {"icc", "dpi"},
    "JPEG": {"icc", "exif", "dpi"},
    "WEBP": {"icc", "exif"},
    "AVIF": {"icc", "exif"},
    "BMP": {"dpi"},
}
NAMES = {"icc": "colour profile", "exif": "EXIF", "dpi": "resolution in DPI", "png_texts": "texts"}


def is_streamed(suffix: str) -> bool:
    """Return whether files with this suffix are written band by band; others need all pixels at once."""
    return FORMATS[suffix] in ("PNG", "TIFF")


def check_writable(shape: tuple[int, int, int], suffix: str) -> None:
    """Refuse a photograph of (H, W, C) that files with a suffix cannot hold.

    Raises:
        ValueError: It is transparent or too large for the format.
    """
    kind, (height, width, channels) = FORMATS[suffix], shape
    if kind == "JPEG" and channels in (2, 4):
        raise ValueError("is transparent, which a JPEG cannot be; name it .png")
    largest = LARGEST_SIDE.get(kind, max(shape))
    if max(height, width) > largest:
        raise ValueError(
            f"its result of {width:,} x {height:,} pixels is too large for {kind}, of {largest:,} a side at most; "
            "name it .png or .tif"
        )
    if kind == "BMP" and height * (width * channels + 3) > FOUR_GIB:
        raise ValueError(
            f"its result of {width:,} x {height:,} pixels is too large for BMP, of 4 GiB at most; name it .png or .tif"
        )


def lost_metadata(metadata: Metadata, suffix: str) -> list[str]:
    """Return the names of what a file with this suffix does not keep of a photograph's metadata."""
    lost = [key for key in (*NAMES, "png_colours") if getattr(metadata, key) and key not in HELD[FORMATS[suffix]]]
    chunks = [kind.decode() for kind, _ in metadata.png_colours] if "png_colours" in lost else []
    return [*(NAMES[key] for key in lost if key in NAMES), *chunks, *metadata.unkept]


def write_photograph(file: BinaryIO, photograph: PhotographInBands, suffix: str) -> None:
    """Write a photograph, at 16 bit where it and the format have them; floats as floats in TIFF, else at 16 bit.

    PNG and TIFF are written as the bands come; of others the result is held at 8 bit, in four bytes a pixel. JPEG,
    WebP and AVIF are written at quality 95. `lost_metadata` tells what is not kept.

    Args:
        file: File to write to, at its current position.
        photograph: Photograph to write.
        suffix: One of `FORMATS`, in small letters.

    Raises:
        ValueError: As `check_writable`.
    """
    check_writable(photograph.shape, suffix)
    kind = FORMATS[suffix]
    if kind == "PNG":
        _write_png(file, photograph)
    elif kind == "TIFF":
        _write_tiff(file, photograph)
    else:
        _write_whole(file, photograph, kind)


def _block_rows(photograph: PhotographInBands) -> int:
    _, width, channels = photograph.shape
    return max(1, BLOCK // (width * channels * photograph.dtype.itemsize))


def _write_png(file: BinaryIO, photograph: PhotographInBands) -> None:
    told = photograph.metadata
    profile = [(b"iCCP", b"ICC profile\0\0" + zlib.compress(told.icc))] if told.icc else []
    resolution = [resolution_chunk(told.dpi)] if told.dpi else []
    exif = [(b"eXIf", told.exif.removeprefix(b"Exif\0\0"))] if told.exif else []
    before = [*told.png_colours, *profile, *resolution, *exif, *told.png_texts]
    blocks: Iterator[NDArray[Any]] = photograph.blocks(_block_rows(photograph))
    if photograph.dtype.kind == "f":
        blocks = (np.round(block.astype(np.float64) * 65535).astype(np.uint16) for block in blocks)
    dtype = np.dtype(np.uint16) if photograph.dtype.kind == "f" else photograph.dtype
    write_png(file, blocks, photograph.shape, dtype, before)


def _write_tiff(file: BinaryIO, photograph: PhotographInBands) -> None:
    import tifffile  # for this alone

    height, width, channels = photograph.shape
    rows, told = _block_rows(photograph), photograph.metadata
    strips = (zlib.compress(block.tobytes()) for block in photograph.blocks(rows))
    tifffile.imwrite(
        file,
        strips,
        shape=photograph.shape if channels > 1 else (height, width),
        dtype=photograph.dtype,
        bigtiff=height * width * channels * photograph.dtype.itemsize > FOUR_GIB,
        rowsperstrip=rows,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        iccprofile=told.icc,
        resolution=told.dpi,
        resolutionunit="inch" if told.dpi else None,
        metadata=None,
    )


def _write_whole(file: BinaryIO, photograph: PhotographInBands, kind: str) -> None:
    image, told = _gather(photograph), photograph.metadata
    if kind == "BMP" and image.mode in ("LA", "RGBA"):  # Pillow's are not transparent
        samples = np.asarray(image.convert("RGBA"))
        file.write(cv2.imencode(".bmp", samples[..., [2, 1, 0, 3]])[1].data)
        return
    about = {"icc_profile": told.icc, "exif": told.exif or b"", **({"dpi": told.dpi} if told.dpi else {})}
    image.save(file, kind, **about, **QUALITY.get(kind, {}))


def _gather(photograph: PhotographInBands) -> Image.Image:
    """Return a photograph as a whole, at 8 bit."""
    height, width, channels = photograph.shape
    image, top = Image.new(("L", "LA", "RGB", "RGBA")[channels - 1], (width, height)), 0
    for block in photograph.blocks(_block_rows(photograph)):
        samples = _to_8_bit(block)
        image.paste(Image.fromarray(samples[..., 0] if channels == 1 else samples), (0, top))
        top += len(block)
    return image


def _to_8_bit(block: NDArray[Any]) -> NDArray[np.uint8]:
    if block.dtype == np.uint8:
        return block
    return np.round(block / 257 if block.dtype == np.uint16 else block * 255).astype(np.uint8)
