"""What happens to pictures before they are enlarged: reduced, blurred, noisy as of a camera, packed as JPEG."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.degradations import imresize
from semanir_plugin.pixels import FloatImage

__all__ = ["Filter", "add_camera_noise", "blur", "reduce"]

Filter = Literal["bicubic", "area", "bilinear"]
Kernel = Literal["gauss", "disk", "sinc"]

GAMMA = 2.2
READ_NOISE = 0.004  # of white, in linear light


def reduce(image: FloatImage, scale: int, by: Filter) -> FloatImage:
    """Return (H / scale, W / scale, C) of an image in [0, 1], alpha included where its colours are premultiplied.

    "bicubic" is MATLAB's, "area" the mean of the pixels, and "bilinear" that of graphics cards and old browsers,
    which looks at two pixels a side and leaves others out.
    """
    if scale == 1:
        return image
    if by == "bicubic":
        return np.clip(imresize(image, 1 / scale), 0, 1)
    size = (image.shape[1] // scale, image.shape[0] // scale)
    how = cv2.INTER_AREA if by == "area" else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), np.float32).reshape(size[1], size[0], -1)


def blur(image: FloatImage, kind: Kernel, strength: float) -> FloatImage:
    """Blur an image by a Gaussian of this sigma, a disk of this radius, or a sinc that passes no finer period.

    Args:
        image: (H, W, C) in [0, 1].
        kind: "gauss", "disk" as of a lens that is out of focus, or "sinc", which rings.
        strength: In pixels: sigma, radius, or half of the shortest period that is left.
    """
    kernel = {"gauss": _gauss, "disk": _disk, "sinc": _sinc}[kind](strength)
    blurred = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    return np.clip(blurred, 0, 1).astype(np.float32)


def add_camera_noise(image: FloatImage, electrons: float, generator: np.random.Generator) -> FloatImage:
    """Add noise of light, whose variance grows with it, and of reading out, in linear light.

    Args:
        image: (H, W, C) in [0, 1].
        electrons: Of a pixel that is white; the fewer, the noisier.
        generator: Draws it.
    """
    light = image.astype(np.float64) ** GAMMA
    seen = generator.poisson(light * electrons) / electrons + generator.normal(0, READ_NOISE, image.shape)
    noisy: NDArray[Any] = np.clip(seen, 0, 1) ** (1 / GAMMA)
    return noisy.astype(np.float32)


def _grid(reach: int) -> NDArray[np.float64]:
    """Return the distances from the middle of a kernel."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distances: NDArray[np.float64] = np.hypot(x, y)
    return distances


def _gauss(sigma: float) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp(-(_grid(int(np.ceil(3 * sigma))) ** 2) / (2 * sigma**2))
    return weights


def _disk(radius: float) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.clip(radius + 0.5 - _grid(int(np.ceil(radius))), 0, 1)
    return weights


def _sinc(half: float) -> NDArray[np.float64]:
    """Return a sinc along both axes, under a window."""
    reach = int(np.ceil(4 * half))
    line: NDArray[np.float64] = np.sinc(np.arange(-reach, reach + 1) / half) * np.hanning(2 * reach + 3)[1:-1]
    return line[:, None] * line
