"""Drops of rain on a lens or on the pane before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.pixels import FloatImage

__all__ = ["SIZE", "STRENGTH", "add_raindrops"]

SIZE = (4.0, 40.0)
"""Pixels across a drop: from, to."""
STRENGTH = (0.7, 1.0)
"""Share of the light in a drop that comes through it: from, to."""

AREA = 256 * 256  # pixels on which the number of drops is counted

# What is drawn, for each image or drop: from, to.
SOFTNESS = (0.2, 0.7)  # of an image: width of edges as a share of the radius, the wider the nearer the drops are
SHRINKING = (3.0, 8.0)  # by how much the scene is smaller in a drop
RIM = (-0.5, 0.2)  # by how much its light is more at the rim
LENGTHENING = (1.0, 1.3)
WAVES = (2, 3, 4)  # of an outline, around it
ROUGHNESS = (0.0, 0.12)  # of the first of them; others are lower

SEEN = 4  # the scene in drops is out of focus, so it is kept smaller by this
BLUR = 0.8  # sigma of it, in pixels of that size
REACH = 1.6  # radii within which a drop lies, however rough and long


@dataclass(frozen=True)
class _Drop:
    """A drop: lengths in pixels, place from the upper left, phases in radians."""

    x: float
    y: float
    radius: float
    strength: float
    softness: float
    shrinking: float
    rim: float
    lengthening: float
    roughness: NDArray[np.float64]
    phases: NDArray[np.float64]


def add_raindrops(
    image: FloatImage,
    drops: float,
    *,
    seed: int,
    size: tuple[float, float] = SIZE,
    strength: tuple[float, float] = STRENGTH,
) -> FloatImage:
    """Put drops before the scene: each shows a large part of it, upside down, small and out of focus.

    A drop is a wide-angle lens with a soft edge, and a little brighter or darker towards its rim. A stand-in where no
    photographs through wet panes are at hand; it follows no published set. What lies beyond the image is its mirror
    image.

    Args:
        image: (H, W, C) in [0, 1].
        drops: How many lie on 256 x 256 pixels, on average.
        seed: Decides everything that is drawn.
        size: Pixels across a drop, from and to, small ones being as likely as large ones by the logarithm.
        strength: Share of the light in the middle of a drop that comes through it, from and to.

    Returns:
        The image, of the same shape, in [0, 1]; outside of the drops equal to the bit.
    """
    generator = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scene = _out_of_focus(image)
    result = image.copy()
    for drop in _draw_drops((height, width), drops, size, strength, generator):
        _lay(result, drop, scene)
    return result


def _draw_drops(
    shape: tuple[int, int],
    drops: float,
    size: tuple[float, float],
    strength: tuple[float, float],
    generator: np.random.Generator,
) -> list[_Drop]:
    """Draw the drops that can be seen, also those of which the border cuts something off."""
    softness, beyond = generator.uniform(*SOFTNESS), REACH * size[1] / 2
    height, width = (side + 2 * beyond for side in shape)
    count = generator.poisson(drops * height * width / AREA)

    def draw(limits: tuple[float, float], *more: int) -> NDArray[np.float64]:
        return generator.uniform(*limits, (count, *more))

    return [
        _Drop(*each)
        for each in zip(
            draw((-beyond, width - beyond)),
            draw((-beyond, height - beyond)),
            np.exp(draw((math.log(size[0]), math.log(size[1])))) / 2,
            draw(strength),
            np.full(count, softness),
            draw(SHRINKING),
            draw(RIM),
            draw(LENGTHENING),
            draw(ROUGHNESS, len(WAVES)) / np.arange(1, len(WAVES) + 1),
            draw((0, 2 * np.pi), len(WAVES)),
            strict=True,
        )
    ]


def _out_of_focus(image: FloatImage) -> FloatImage:
    """Return the image (h, w, C), smaller by `SEEN` and blurred."""
    size = (-(-image.shape[1] // SEEN), -(-image.shape[0] // SEEN))
    smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(smaller, (0, 0), BLUR, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32).reshape(size[1], size[0], image.shape[2])


def _lay(image: FloatImage, drop: _Drop, scene: FloatImage) -> None:
    """Put a drop on an image (H, W, C), in place."""
    reach = REACH * drop.radius
    (top, bottom), (left, right) = (
        (max(0, int(at - reach)), min(side, int(at + reach) + 2))
        for at, side in zip((drop.y, drop.x), image.shape, strict=False)
    )
    if top >= bottom or left >= right:
        return
    down = (np.arange(top, bottom, dtype=np.float32) - np.float32(drop.y))[:, None]
    along = (np.arange(left, right, dtype=np.float32) - np.float32(drop.x))[None]
    distance = _distance(drop, along, down)
    covered = _covered(drop, distance)[..., None]
    part = image[top:bottom, left:right]
    part += covered * (_refracted(drop, along, down, distance, scene, image.shape) - part)


def _distance(drop: _Drop, along: FloatImage, down: FloatImage) -> FloatImage:
    """Return (h, w): the distance from the middle, 1 being the outline."""
    down = down / np.float32(drop.lengthening)
    angle = np.arctan2(down, along)
    outline = np.ones_like(angle)
    for wave, rough, phase in zip(WAVES, drop.roughness, drop.phases, strict=True):
        outline += np.float32(rough) * np.cos(np.float32(wave) * angle + np.float32(phase))
    result: FloatImage = (np.hypot(along, down) / (np.float32(drop.radius) * outline)).astype(np.float32, copy=False)
    return result


def _covered(drop: _Drop, distance: FloatImage) -> FloatImage:
    """Return (h, w): the share of the light that comes through the drop, 0 outside of it, smooth at its edge."""
    inwards = np.clip((1 - distance) / np.float32(drop.softness), 0, 1)
    result: FloatImage = np.float32(drop.strength) * inwards**2 * (3 - 2 * inwards)
    return result


def _refracted(
    drop: _Drop, along: FloatImage, down: FloatImage, distance: FloatImage, scene: FloatImage, shape: tuple[int, ...]
) -> FloatImage:
    """Return (h, w, C) in [0, 1]: what is seen through the drop, ever more of the scene towards its rim."""
    inside = np.minimum(distance, 1)
    bend = np.float32(-drop.shrinking) * (1 + inside**2 / 2)
    smaller_by = (side / small for side, small in zip(shape[1::-1], scene.shape[1::-1], strict=True))
    x, y = (
        ((at + bend * offset + np.float32(0.5)) / ratio - np.float32(0.5)).astype(np.float32)
        for at, offset, ratio in zip((drop.x, drop.y), (along, down), smaller_by, strict=True)
    )
    seen = cv2.remap(scene, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    light = 1 + np.float32(drop.rim) * inside**2
    result: FloatImage = np.clip(np.asarray(seen).reshape(*distance.shape, -1) * light[..., None], 0, 1)
    return result
