"""Photographs as files: pixels of 8 or 16 bit, transparency, colour profile and EXIF, read and written as they were."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

__all__ = ["FORMATS", "Photograph", "decode_photograph", "encode_photograph"]

FORMATS = {
    **{".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG"},
    **{".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"},
}
"""What can be read and written, by the suffix of its files."""

# Lossy formats: visibly no loss, at a size that a photograph may have. 4:4:4 keeps what was restored of the colours.
QUALITY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}

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
        pixels: (H, W, 3) RGB or (H, W, 1) gray, 8 or 16 bit.
        alpha: (H, W) opacity of the same depth; None: opaque.
        icc: The colour profile.
        exif: Other metadata, without an orientation.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    icc: bytes | None = None
    exif: bytes | None = None


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
    pixels, alpha = np.split(np.ascontiguousarray(samples), [1 if gray else 3], axis=2)
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
    """Return (H, W, C), RGB with or without alpha or gray; Pillow would halve the depth of colours."""
    samples = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise ValueError("cannot be decoded at 16 bit; save it as a plain 16-bit PNG or TIFF")
    samples = samples.reshape(*samples.shape[:2], -1)
    if content.startswith(b"\x89PNG") and content[25] == GRAY_WITH_ALPHA:  # which OpenCV makes colours of
        return samples[..., [0, 3]]
    return samples[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[2]]]


def _read_8_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Return (H, W, C), gray or RGB, each with alpha where there is transparency."""
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise ValueError(f"has pixels of kind {image.mode}; convert it to RGB")
    gray = image.mode in ("1", "L", "LA")
    samples = np.asarray(image.convert(("L" if gray else "RGB") + "A" * image.has_transparency_data))
    return samples.reshape(*samples.shape[:2], -1)


def _keep(exif: Image.Exif, image: Image.Image) -> bytes | None:
    if image.format == "TIFF" or not len(exif):  # of TIFF, EXIF is how the pixels are stored
        return None
    try:
        return exif.tobytes()
    except Exception:  # cameras write what they like; the picture is worth more
        return None


def encode_photograph(photograph: Photograph, suffix: str) -> bytes:
    """Return a file's bytes, at 16 bit where the photograph and the format have them.

    JPEG and WebP are written at quality 95. BMP holds neither profile nor EXIF, TIFF no EXIF.

    Args:
        photograph: What to write.
        suffix: One of `FORMATS`, in small letters.

    Raises:
        ValueError: The photograph is transparent and the format cannot be.
    """
    kind = FORMATS[suffix]
    if kind == "JPEG" and photograph.alpha is not None:
        raise ValueError("is transparent, which a JPEG cannot be; name it .png")
    planes = [photograph.pixels] if photograph.alpha is None else [photograph.pixels, photograph.alpha[..., None]]
    samples = np.concatenate(planes, axis=2)
    if kind == "TIFF":
        return _encode_tiff(samples, photograph)
    if kind == "PNG" and samples.dtype == np.uint16:
        return _describe_png(_encode_with_opencv(samples, ".png"), photograph)
    if samples.dtype == np.uint16:
        samples = np.round(samples / 257).astype(np.uint8)
    if kind == "BMP":  # Pillow's are not transparent
        return _encode_with_opencv(samples, ".bmp")
    file = io.BytesIO()
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    image.save(file, kind, icc_profile=photograph.icc, exif=photograph.exif or b"", **QUALITY.get(kind, {}))
    return file.getvalue()


def _encode_with_opencv(samples: NDArray[Any], suffix: str) -> bytes:
    """Return a file without profile and EXIF; gray with transparency becomes equal colours."""
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[2]]
    return cv2.imencode(suffix, np.ascontiguousarray(samples[..., order]))[1].tobytes()


def _encode_tiff(samples: NDArray[Any], photograph: Photograph) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        samples if samples.shape[2] > 1 else samples[..., 0],
        photometric="rgb" if samples.shape[2] > 2 else "minisblack",
        planarconfig="contig" if samples.shape[2] > 1 else None,
        extrasamples=None if photograph.alpha is None else ["unassalpha"],
        compression="zlib",
        iccprofile=photograph.icc,
        metadata=None,
    )
    return file.getvalue()


def _describe_png(png: bytes, photograph: Photograph) -> bytes:
    about = b""
    if photograph.icc:
        about += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photograph.icc))
    if photograph.exif:
        about += _chunk(b"eXIf", photograph.exif.removeprefix(b"Exif\0\0"))
    return png[:33] + about + png[33:]  # right after the signature and IHDR


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
