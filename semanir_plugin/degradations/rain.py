"""Streaks of rain."""

from __future__ import annotations

import cv2
import numpy as np

from semanir_plugin.pixels import FloatImage

__all__ = ["add_rain_streaks"]

# What is drawn for each image and each of its layers: from, to.
LAYERS = (1, 3)
ANGLE = (60.0, 120.0)  # degrees from the horizontal; the layers of an image differ by up to SPREAD
SPREAD = 5.0
DROPS = (0.0003, 0.002)  # per pixel
LENGTH = (9.0, 45.0)  # pixels, as are widths
WIDTH = (0.4, 1.2)
BRIGHTNESS = (0.25, 0.7)


def add_rain_streaks(image: FloatImage, *, seed: int, amount: float = 1.0) -> FloatImage:
    """Add streaks like those of drops during a photograph's exposure: bright, thin, and nearly parallel.

    A stand-in where no rainy photographs are at hand; it follows no published set. One to three layers of random
    points, each blurred along a line and across it, brighten the image by screen blending, so that nothing is clipped.

    Args:
        image: (H, W, C) in [0, 1].
        seed: Decides everything that is drawn.
        amount: How many times the usual number of drops fall; 4 is a downpour.

    Returns:
        The rainy image, of the same shape, nowhere darker, in [0, 1].
    """
    generator = np.random.default_rng(seed)
    angle = generator.uniform(*ANGLE)
    dry = np.ones(image.shape[:2], np.float32)
    for _ in range(generator.integers(*LAYERS, endpoint=True)):
        dry *= 1 - _streaks(image.shape[:2], angle + generator.uniform(-SPREAD, SPREAD), amount, generator)
    return 1 - (1 - image) * dry[..., None]


def _streaks(size: tuple[int, ...], angle: float, amount: float, generator: np.random.Generator) -> FloatImage:
    """Return (H, W) in [0, 1]: one layer."""
    share, length, width = (generator.uniform(*limits) for limits in (DROPS, LENGTH, WIDTH))
    brightness = generator.uniform(*BRIGHTNESS)
    drops = np.where(generator.random(size) < amount * share, generator.uniform(0.3, 1.0, size), 0).astype(np.float32)
    kernel = _line(length, angle, width)
    result: FloatImage = np.clip(brightness * cv2.filter2D(drops, -1, kernel, borderType=cv2.BORDER_REFLECT_101), 0, 1)
    return result


def _line(length: float, angle: float, width: float) -> FloatImage:
    """Return a kernel with peak 1: a line that fades out at its ends, `width` being the sigma across it."""
    reach = int(np.ceil(length / 2 + 3 * width))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along, across = x * cosine - y * sine, x * sine + y * cosine
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    result: FloatImage = np.exp(-(across**2 + beyond**2) / (2 * width**2)).astype(np.float32)
    return result
