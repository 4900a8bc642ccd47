"""The transfer curve of sRGB (IEC 61966-2-1): from values of files to amounts of light, and back."""

from __future__ import annotations

import numpy as np

from semanir_plugin.pixels import FloatImage

__all__ = ["from_linear", "to_linear"]


def to_linear(image: FloatImage) -> FloatImage:
    """Map values of sRGB in [0, 1], of any shape, to amounts of light in [0, 1]."""
    image = image.astype(np.float32, copy=False)
    return np.where(image <= 0.04045, image / 12.92, ((np.maximum(image, 0) + 0.055) / 1.055) ** 2.4)


def from_linear(light: FloatImage) -> FloatImage:
    """Map amounts of light in [0, 1], of any shape, to values of sRGB in [0, 1]."""
    light = light.astype(np.float32, copy=False)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)
