"""Blur of a camera that moves during the exposure."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.degradations.linear_light import from_linear, to_linear
from semanir_plugin.pixels import FloatImage

__all__ = ["blur_by_motion", "draw_motion"]

STEPS = 64  # positions of a motion
BEND = (0.0, 3.0)  # radians by which a motion turns on its way, as a standard deviation: from, to


def blur_by_motion(image: FloatImage, length: float, *, seed: int) -> FloatImage:
    """Blur along a line that bends at random, as a hand that shakes draws it.

    The blur is computed in linear light, where the sensor adds up what falls on it while the camera moves: so lamps
    leave bright streaks. GoPro's blurred images, which are averages of frames, undo a gamma of 2.2 for the same reason
    (Nah et al., CVPR 2017, section 3). The way itself follows no published set.

    Args:
        image: (H, W, C) in [0, 1], sRGB; mirrored at its border.
        length: Of the way in pixels; 0 is at rest.
        seed: Decides the way.

    Returns:
        The blurred image, of the same shape, in [0, 1].
    """
    kernel = draw_motion(length, np.random.default_rng(seed))
    blurred = cv2.filter2D(to_linear(image), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return from_linear(np.clip(np.asarray(blurred, np.float32), 0, 1).reshape(image.shape))


def draw_motion(length: float, generator: np.random.Generator) -> FloatImage:
    """Draw a kernel (K, K), K odd, that adds up to 1 and whose centre of mass is in its middle."""
    turns = generator.normal(0, generator.uniform(*BEND) / np.sqrt(STEPS), STEPS)
    angles = generator.uniform(0, 2 * np.pi) + np.cumsum(turns)
    way = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0) * length / STEPS
    return _splat(way - way.mean(axis=0))


def _splat(points: NDArray[np.float64]) -> FloatImage:
    """Share each point (N, 2), y and x from the middle, among the four cells around it."""
    reach = int(np.ceil(np.abs(points).max(initial=0)))
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3))
    corner = np.floor(points).astype(int)
    part = points - corner
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - y - part[:, 0]) * np.abs(1 - x - part[:, 1])
        np.add.at(kernel, (corner[:, 0] + y + reach + 1, corner[:, 1] + x + reach + 1), share)
    result: FloatImage = (kernel / kernel.sum()).astype(np.float32)
    return result
