"""The RGGB mosaic of a camera's sensor, and the linear demosaicking that restoration starts from.

Filters of Malvar, He and Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color images"
(ICASSP 2004), figure 2.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.pixels import FloatImage

__all__ = ["demosaic_malvar", "mosaic_rggb"]


def _kernel(*rows: tuple[float, ...]) -> NDArray[np.float64]:
    """Complete a kernel, which is symmetric about its middle row, and normalise it."""
    return np.array([*rows, *rows[1::-1]]) / 8


_GREEN = _kernel((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1))
_ALONG_ROW = _kernel((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1))
_ALONG_COLUMN = _ALONG_ROW.T
_DIAGONAL = _kernel((0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5))


def mosaic_rggb(image: FloatImage) -> FloatImage:
    """Keep one colour per pixel: red at even rows and columns, blue at odd ones, green elsewhere.

    Args:
        image: (H, W, 3), BGR.

    Returns:
        (H, W).
    """
    mosaic = image[..., 1].copy()
    mosaic[0::2, 0::2] = image[0::2, 0::2, 2]
    mosaic[1::2, 1::2] = image[1::2, 1::2, 0]
    return mosaic


def demosaic_malvar(mosaic: FloatImage) -> FloatImage:
    """Interpolate the two colours that each pixel lacks; the image is mirrored at its border.

    Args:
        mosaic: (H, W), RGGB, in any range.

    Returns:
        (H, W, 3), BGR, neither clipped nor quantised; the colour that a pixel has is kept.
    """
    green, along_row, along_column, diagonal = (
        cv2.filter2D(mosaic, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        for kernel in (_GREEN, _ALONG_ROW, _ALONG_COLUMN, _DIAGONAL)
    )
    image = np.stack([mosaic] * 3, axis=-1)
    for row, column in ((0, 0), (1, 1)):  # red and blue pixels
        own, other = (2, 0) if row == 0 else (0, 2)
        image[row::2, column::2, 1] = green[row::2, column::2]
        image[row::2, column::2, other] = diagonal[row::2, column::2]
        image[row::2, 1 - column :: 2, own] = along_row[row::2, 1 - column :: 2]
        image[1 - row :: 2, column::2, own] = along_column[1 - row :: 2, column::2]
    return image
