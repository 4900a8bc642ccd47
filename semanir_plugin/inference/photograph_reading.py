"""Reading of photographs: what files of many formats have, in their own depth, with all they say beside."""

from __future__ import annotations

import importlib
import io
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from semanir_plugin.foreign_files import foreign_kind
from semanir_plugin.inference.image_limits import large_metadata
from semanir_plugin.inference.orientation import ORIENTATION, orientation_of, turn_upright
from semanir_plugin.inference.photographs import Metadata, Photograph
from semanir_plugin.inference.png_chunks import PNG, check_pixel_data, kept_chunks, read_chunks
from semanir_plugin.inference.tiff_samples import check_tiff_data, read_tiff_samples
from semanir_plugin.inference.tiff_tags import TIFF, read_tiff_metadata

__all__ = ["PICTURES", "READABLE", "decode_photograph", "missing_package"]

# Of what Pillow reads, pictures; not documents, movies, or PostScript, which another program would run.
_FORMATS = {
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
    *("HEIF", "JXL"),  # by packages of others
}
_PLUGINS = {  # their suffixes, and what has to be called of them
    "pillow_heif": ((".heic", ".heif"), "register_heif_opener"),
    "pillow_jxl": ((".jxl",), None),
}

_CHECKS = {"PNG": check_pixel_data, "TIFF": check_tiff_data}  # of what Pillow lets pass
_PACKAGES = {"pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}

_ROWS = 2**18  # pixels that are converted at once: Pillow's conversions make copies
_UNKEPT = {"xmp": "XMP", "comment": "comment", "photoshop": "IPTC"}  # by Pillow's names
_GRAY_WITH_ALPHA = 4  # a colour type of PNG


READABLE = (
    *(".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm"),
    *(".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp"),
    *(suffix for plugin, (suffixes, _) in _PLUGINS.items() if find_spec(plugin) for suffix in suffixes),
)
"""Suffixes of the files that can be read, in small letters."""

PICTURES = {*READABLE, *(suffix for suffixes, _ in _PLUGINS.values() for suffix in suffixes)}
"""Suffixes of pictures, whether or not they can be read here."""


def missing_package(suffix: str) -> str | None:
    """Return the package that would read files with a suffix; None where they can be read, or are no pictures."""
    found = (plugin for plugin, (suffixes, _) in _PLUGINS.items() if suffix.lower() in suffixes)
    plugin = None if suffix.lower() in READABLE else next(found, None)
    return plugin and _PACKAGES[plugin]


def decode_photograph(content: bytes) -> Photograph:
    """Read a file's bytes. A palette becomes colours, black and white become gray.

    Raises:
        ValueError: They are no image, a damaged or an animated one, or one of other than gray or RGB colours.
    """
    with large_metadata():
        image = _open(content)
        if image is None:
            return _split(read_tiff_samples(content), _checked(read_tiff_metadata(content)))
        samples = _read_samples(image, content)  # first: it needs the orientation, which metadata are freed of
        return _split(samples, _read_metadata(image, content))


def _split(samples: NDArray[Any], metadata: Metadata) -> Photograph:
    pixels, alpha = np.split(samples, [1 if samples.shape[2] < 3 else 3], axis=2)
    return Photograph(pixels, alpha[..., 0] if alpha.size else None, metadata)


def _open(content: bytes) -> Image.Image | None:
    """Return the image of a file; None of a TIFF that Pillow does not know."""
    try:
        image = _identify(content)
        if image.format not in {*_FORMATS, "MPO"}:
            raise ValueError(f"is a {image.format} file; {', '.join(sorted(_FORMATS))} are restored")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a JPEG with pictures beside the first
            raise ValueError(f"has {frames} frames or pages; save the one to restore")
        return image
    except UnidentifiedImageError as error:
        if content.startswith(TIFF):
            return None
        raise ValueError(foreign_kind(content) or "is no image, or a damaged one") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # of Pillow's decoders
        raise ValueError(f"cannot be decoded: {error}") from error


def _identify(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        for name, (_, register) in _PLUGINS.items():
            if find_spec(name):
                plugin = importlib.import_module(name)
                if register:
                    getattr(plugin, register)()
        return Image.open(io.BytesIO(content))


def _read_samples(image: Image.Image, content: bytes) -> NDArray[Any]:
    """Return the samples upright, (H, W, C), gray or RGB, each with opacity where there is some."""
    if image.format == "TIFF" and _needs_tifffile(image):
        return read_tiff_samples(content)
    orientation = orientation_of(image)
    is_deep = image.format == "PNG" and content[24] == 16  # IHDR's bit depth
    if image.format in _CHECKS:
        _CHECKS[image.format](content)
    return turn_upright(_read_deep_png(content) if is_deep else _read_with_pillow(image), orientation)


def _needs_tifffile(image: Any) -> bool:
    bits, formats = image.tag_v2.get(258, (1,)), image.tag_v2.get(339, (1,))
    planes_apart = image.tag_v2.get(284, 1) == 2 and 338 in image.tag_v2  # the latter tells of opacity
    return max(bits) > 8 or max(formats) != 1 or planes_apart or image.mode == "La"


def _read_metadata(image: Image.Image, content: bytes) -> Metadata:
    if image.format == "TIFF":
        return _checked(read_tiff_metadata(content))
    exif, info = image.getexif(), image.info
    exif.pop(ORIENTATION, None)
    colours, texts = kept_chunks(content) if content.startswith(PNG) else ((), ())
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=_keep(exif),
        dpi=_plausible(info.get("dpi")),
        png_colours=colours,
        png_texts=texts,
        unkept=tuple(name for key, name in _UNKEPT.items() if info.get(key) and not texts),
    )


def _checked(metadata: Metadata) -> Metadata:
    return replace(metadata, dpi=_plausible(metadata.dpi))


def _plausible(dpi: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(each) for each in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def _keep(exif: Image.Exif) -> bytes | None:
    if not len(exif):
        return None
    try:
        return exif.tobytes()
    except Exception:  # cameras write what they like; the picture is worth more
        return None


def _read_deep_png(content: bytes) -> NDArray[np.uint16]:
    """Return (H, W, C) of 16 bit; Pillow would reduce colours to 8."""
    samples: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise ValueError("cannot be decoded at 16 bit; save it as a plain 16-bit PNG or TIFF")
    samples = samples.reshape(*samples.shape[:2], -1)
    if content[25] == _GRAY_WITH_ALPHA:  # which OpenCV makes colours of
        result: NDArray[np.uint16] = samples[..., [0, 3]]
        return result
    if samples.shape[2] > 1:
        for row in samples:  # in place
            row[:, :3] = row[:, 2::-1].copy()
    hidden = next((data for kind, data in read_chunks(content) if kind == b"tRNS"), None)
    return samples if hidden is None else _hide(samples, np.frombuffer(hidden, ">u2"))


def _hide(samples: NDArray[np.uint16], colour: NDArray[Any]) -> NDArray[np.uint16]:
    """Return samples with opacity: none where they are of one colour, as tRNS says, else all."""
    if samples.shape[2] != len(colour):
        return samples
    opacity = np.where((samples == colour).all(2, keepdims=True), 0, np.iinfo(np.uint16).max)
    return np.concatenate([samples, opacity.astype(np.uint16)], axis=2)


def _read_with_pillow(image: Image.Image) -> NDArray[Any]:
    """Return (H, W, C) of 8 bit, gray or RGB, each with opacity where there is some; of gray PPM files also 16 bit."""
    try:
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    if image.mode in ("I", "I;16") and image.format == "PPM":
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"):
        raise ValueError(f"has pixels of kind {image.mode}; convert it to RGB")
    gray, alpha = image.mode in ("1", "L", "LA"), image.has_transparency_data
    mode, (width, height) = ("L" if gray else "RGB") + "A" * alpha, image.size
    samples = np.empty((height, width, len(mode)), np.uint8)
    rows = max(1, _ROWS // width)
    for top in range(0, height, rows):
        part = image.crop((0, top, width, min(top + rows, height))).convert(mode)
        samples[top : top + rows] = np.asarray(part).reshape(-1, width, len(mode))
    return samples
