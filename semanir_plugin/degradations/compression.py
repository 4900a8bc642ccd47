"""Lossy compression, JPEG and WebP."""

from __future__ import annotations

import cv2
import numpy as np

from semanir_plugin.pixels import Image

__all__ = ["compress_jpeg", "compress_webp"]


def compress_jpeg(image: Image, quality: int) -> Image:
    """Compress with OpenCV's encoder, which halves the resolution of colours (4:2:0), and decode.

    Args:
        image: (H, W, 3), BGR, or (H, W, 1), 8 bit.
        quality: From 0 to 100.

    Returns:
        The image with its artefacts, of the same shape.
    """
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    return np.asarray(decoded, np.uint8).reshape(image.shape)


def compress_webp(image: Image, quality: int) -> Image:
    """Compress with OpenCV's encoder of lossy WebP, and decode.

    Args:
        image: (H, W, 3), BGR, 8 bit.
        quality: From 1 to 100.

    Returns:
        The image with its artefacts, of the same shape.
    """
    _, encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
