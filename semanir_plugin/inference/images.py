"""Decode image files of every kind to the channels that a network takes."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.color import luma_bgr
from semanir_plugin.foreign_files import foreign_kind
from semanir_plugin.inference.image_limits import check_pixels
from semanir_plugin.inference.orientation import turn_upright
from semanir_plugin.inference.tiff_samples import read_tiff_samples
from semanir_plugin.inference.tiff_tags import TIFF, read_tiff_tags
from semanir_plugin.pixels import FloatImage, to_float

__all__ = ["Channels", "decode_image", "decode_pixels", "decode_upright"]

Channels = Literal["color", "gray", "y"]

_SAMPLES, _PLANES, _APART = 277, 284, 2  # tags, and a value of the latter

_FLAGS = {"color": cv2.IMREAD_COLOR, "gray": cv2.IMREAD_GRAYSCALE, "y": cv2.IMREAD_ANYCOLOR}


def decode_pixels(content: bytes, flag: int = cv2.IMREAD_ANYCOLOR) -> NDArray[Any]:
    """Decode a file's bytes with OpenCV: upright as the EXIF orientation says, its alpha dropped, its depth kept.

    Returns:
        (H, W, 3) in BGR order or (H, W), 8 or 16 bit.

    Raises:
        ValueError: It cannot be decoded, has another depth, or more pixels than `check_pixels` allows.
    """
    pixels = decode_upright(content, flag | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        told = foreign_kind(content) or "cannot be decoded; replace it or take it out"
        raise ValueError(f"the image {told}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"the image has {pixels.dtype} pixels; 8 and 16 bit are read, so convert it")
    return pixels


def decode_upright(content: bytes, flag: int) -> NDArray[Any] | None:
    """Decode a file's bytes with OpenCV, upright by `orientation_of` whatever OpenCV's version turns.

    Returns:
        (H, W, 3) in BGR order or (H, W); None of what is no image.

    Raises:
        ValueError: It has more pixels than `check_pixels` allows.
    """
    orientation = check_pixels(content)
    if content.startswith(TIFF) and _has_planes_apart(content):  # which OpenCV mixes up at 16 bit
        return _recolour(read_tiff_samples(content), flag)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # the content is empty
        return None
    return None if pixels is None else np.ascontiguousarray(turn_upright(pixels, orientation))


def _has_planes_apart(content: bytes) -> bool:
    tags = read_tiff_tags(content)
    return tags.get(_PLANES) == _APART and tags.get(_SAMPLES, 1) > 1


def _recolour(samples: NDArray[Any], flag: int) -> NDArray[Any]:
    """Return (H, W, C) samples, gray or RGB, as OpenCV decodes by a flag: BGR or (H, W), without opacity."""
    pixels = samples[..., 2::-1] if samples.shape[2] > 2 else samples[..., 0]
    if not flag & cv2.IMREAD_ANYDEPTH and pixels.dtype != np.uint8:
        pixels = pixels >> 8 if pixels.dtype == np.uint16 else np.round(pixels * 255)
        pixels = pixels.astype(np.uint8)
    pixels = np.ascontiguousarray(pixels)
    if pixels.ndim == 3:
        return pixels if flag & (cv2.IMREAD_COLOR | cv2.IMREAD_ANYCOLOR) else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if flag & cv2.IMREAD_COLOR else pixels


def decode_image(content: bytes, channels: Channels) -> FloatImage:
    """Decode a file's bytes to the range [0, 1].

    Args:
        content: The file's bytes.
        channels: "color": a gray image has it three times. "gray": OpenCV's luma, 0.299 R + 0.587 G + 0.114 B, as
            denoising papers read. "y": the Y of MATLAB's YCbCr, in [16, 235] / 255, as JPEG papers read, of a colour
            image; a gray one is taken as it is. Both are rounded to the depth of the file (Y to 8 bit, if that is 8).

    Returns:
        (H, W, 3) in BGR order, or (H, W, 1).

    Raises:
        ValueError: As `decode_pixels`.
    """
    pixels = decode_pixels(content, _FLAGS[channels])
    if channels == "y" and pixels.ndim == 3:
        y = luma_bgr(to_float(pixels))
        pixels = y.round().astype(np.uint8) if pixels.dtype == np.uint8 else y / 255
    return to_float(pixels if pixels.ndim == 3 else pixels[..., None])
