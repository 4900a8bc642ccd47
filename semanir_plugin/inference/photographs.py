"""Photographs as files: pixels of 8 or 16 bit, transparency, colour profile and EXIF, read and written as they were."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from semanir_plugin.inference.png_stream import write_png

__all__ = [
    "FORMATS",
    "Photograph",
    "PhotographInBands",
    "check_writable",
    "decode_photograph",
    "is_streamed",
    "write_photograph",
]

FORMATS = {
    **{".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG"},
    **{".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"},
}
"""Formats that can be read and written, by suffix."""

# Lossy formats: visibly no loss, at a size that a photograph may have. 4:4:4 keeps what was restored of the colours.
QUALITY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}

LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # in pixels, of libjpeg and of the format
FOUR_GIB = 2**32 - 2**25  # bytes of pixels that BMP and classic TIFF hold, with room for heads and what zlib adds

BLOCK = 2**18  # bytes of rows that are rounded, filtered and compressed at once

GRAY_WITH_ALPHA = 4  # a colour type of PNG

ORIENTATION = 0x0112  # EXIF's tag; how to turn the pixels of each of its values upright
UPRIGHT = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True)
class Photograph:
    """A photograph, upright.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) gray, 8 or 16 bit; of images that are no files also floats in [0, 1].
        alpha: (H, W) opacity of the same depth; None: opaque.
        icc: The colour profile.
        exif: Other metadata, without an orientation.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    icc: bytes | None = None
    exif: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class PhotographInBands:
    """A photograph as bands from top to bottom, so that it need never be in memory as a whole.

    Attributes:
        shape: (H, W, C): C of 1 is gray, of 3 RGB, one more the opacity.
        dtype: Of 8 or 16 bit.
        bands: (h, W, C) each, whose h add up to H; they come once.
        icc: The colour profile.
        exif: Other metadata, without an orientation.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    bands: Iterable[NDArray[Any]]
    icc: bytes | None = None
    exif: bytes | None = None

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


def decode_photograph(content: bytes) -> Photograph:
    """Read a file's bytes. A palette becomes colours, black and white become gray.

    Raises:
        ValueError: They are no image, a damaged or an animated one, or one of other than gray or RGB colours.
    """
    image = _open(content)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a JPEG with pictures beside the first
        raise ValueError(f"has {frames} frames or pages; save the one to restore")
    exif = image.getexif()
    turn = UPRIGHT.get(exif.pop(ORIENTATION, 1))  # TIFF is upright already, and the tag gone
    samples = _read_16_bit(content) if _is_16_bit(content, image) else _read_8_bit(image)
    gray = samples.shape[2] < 3
    if turn is not None:
        samples = turn(samples)
    pixels, alpha = np.split(samples, [1 if gray else 3], axis=2)
    return Photograph(
        pixels, alpha[..., 0] if alpha.size else None, image.info.get("icc_profile") or None, _keep(exif, image)
    )


def _open(content: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        if image.format not in {*FORMATS.values(), "MPO"}:
            raise ValueError(f"is a {image.format} file; {', '.join(sorted(set(FORMATS.values())))} are restored")
        image.load()
    except UnidentifiedImageError as error:
        raise ValueError("is no image, or a damaged one") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # of Pillow's decoders
        raise ValueError(f"cannot be decoded: {error}") from error
    return image


def _is_16_bit(content: bytes, image: Image.Image) -> bool:
    if image.format == "PNG":
        return content[24] == 16  # IHDR's bit depth
    return image.format == "TIFF" and max(image.tag_v2.get(258, (1,))) == 16  # type: ignore[attr-defined]


def _read_16_bit(content: bytes) -> NDArray[Any]:
    """Return (H, W, C), gray, RGB or RGBA; Pillow would reduce colours to 8 bit."""
    samples = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise ValueError("cannot be decoded at 16 bit; save it as a plain 16-bit PNG or TIFF")
    samples = samples.reshape(*samples.shape[:2], -1)
    if content.startswith(b"\x89PNG") and content[25] == GRAY_WITH_ALPHA:  # which OpenCV makes colours of
        return samples[..., [0, 3]]
    if samples.shape[2] > 1:
        for row in samples:  # in place
            row[:, :3] = row[:, 2::-1].copy()
    return samples


def _read_8_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Return (H, W, C), gray or RGB, each with alpha where there is transparency."""
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise ValueError(f"has pixels of kind {image.mode}; convert it to RGB")
    gray, alpha = image.mode in ("1", "L", "LA"), image.has_transparency_data
    mode, (width, height) = ("L" if gray else "RGB") + "A" * alpha, image.size
    samples = np.empty((height, width, len(mode)), np.uint8)
    rows = max(1, BLOCK // width)  # Pillow's conversions make copies
    for top in range(0, height, rows):
        part = image.crop((0, top, width, min(top + rows, height))).convert(mode)
        samples[top : top + rows] = np.asarray(part).reshape(-1, width, len(mode))
    return samples


def _keep(exif: Image.Exif, image: Image.Image) -> bytes | None:
    if image.format == "TIFF" or not len(exif):  # of TIFF, EXIF is how the pixels are stored
        return None
    try:
        return exif.tobytes()
    except Exception:  # cameras write what they like; the picture is worth more
        return None


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


def write_photograph(file: BinaryIO, photograph: PhotographInBands, suffix: str) -> None:
    """Write a photograph, at 16 bit where it and the format have them.

    PNG and TIFF are written as the bands come; of others the result is held at 8 bit, in four bytes a pixel. JPEG and
    WebP are written at quality 95. BMP holds neither profile nor EXIF, TIFF no EXIF.

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
    exif = (photograph.exif or b"").removeprefix(b"Exif\0\0")
    blocks = photograph.blocks(_block_rows(photograph))
    write_png(file, blocks, photograph.shape, photograph.dtype, icc=photograph.icc, exif=exif)


def _write_tiff(file: BinaryIO, photograph: PhotographInBands) -> None:
    import tifffile  # for this alone

    height, width, channels = photograph.shape
    rows = _block_rows(photograph)
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
        iccprofile=photograph.icc,
        metadata=None,
    )


def _write_whole(file: BinaryIO, photograph: PhotographInBands, kind: str) -> None:
    image = _gather(photograph)
    if kind == "BMP" and image.mode in ("LA", "RGBA"):  # Pillow's are not transparent
        samples = np.asarray(image.convert("RGBA"))
        file.write(cv2.imencode(".bmp", samples[..., [2, 1, 0, 3]])[1].data)
        return
    image.save(file, kind, icc_profile=photograph.icc, exif=photograph.exif or b"", **QUALITY.get(kind, {}))


def _gather(photograph: PhotographInBands) -> Image.Image:
    """Return a photograph as a whole, at 8 bit."""
    height, width, channels = photograph.shape
    image, top = Image.new(("L", "LA", "RGB", "RGBA")[channels - 1], (width, height)), 0
    for block in photograph.blocks(_block_rows(photograph)):
        samples = np.round(block / 257).astype(np.uint8) if block.dtype == np.uint16 else block
        image.paste(Image.fromarray(samples[..., 0] if channels == 1 else samples), (0, top))
        top += len(block)
    return image
