"""What an image has on ground that is flat in the truth: specks in the open, and ringing beside edges.

PSNR hardly notices either, the eye at once: the white of a page and the blue of a sky should have nothing on them.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.metrics.images import InputOrder, prepare
from semanir_plugin.registry import METRICS

__all__ = ["calculate_ringing", "calculate_specks"]


@METRICS.register
def calculate_specks(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    distance: int = 8,
    tolerance: float = 2,
    better: Literal["lower"] = "lower",
) -> float:
    """Return the deviation from the truth where that is flat for some pixels around: their RMS, in levels of 255.

    A pixel is flat to a distance of n where, of each channel of the truth, the largest and the least value among the
    (2 n + 1) x (2 n + 1) pixels around it, as far as they lie in the image, differ by no more than the tolerance.

    Args:
        img: In [0, 255], (H, W, C), (C, H, W) or (H, W).
        img2: The ground truth.
        crop_border: Pixels that are left out at each border.
        input_order: "HWC" or "CHW".
        distance: How far around a pixel the truth must be flat, at least 0.
        tolerance: In levels.
        better: For BasicSR, which passes it on.

    Returns:
        0 at best; NaN where nothing is flat.

    Raises:
        ValueError: The shapes differ, nothing is left within the border, or the distance or the tolerance is negative.
    """
    image, truth = prepare(img, img2, crop_border=crop_border, input_order=input_order)
    return _rms(image - truth, _is_flat(truth, distance, tolerance))


@METRICS.register
def calculate_ringing(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    nearest: int = 2,
    farthest: int = 8,
    tolerance: float = 2,
    better: Literal["lower"] = "lower",
) -> float:
    """Return the deviation from the truth on flat ground close to something: its RMS, in levels of 255.

    There JPEG leaves its mosquitoes, and sharpening its halos. What is judged is flat to `nearest`, but not to
    `farthest`, as `calculate_specks` has it; right beside an edge, where a result may just be less sharp, nothing is.

    Args:
        img: In [0, 255], (H, W, C), (C, H, W) or (H, W).
        img2: The ground truth.
        crop_border: Pixels that are left out at each border.
        input_order: "HWC" or "CHW".
        nearest: How far around a pixel the truth must be flat, at least 0.
        farthest: How far around it must not be.
        tolerance: In levels.
        better: For BasicSR, which passes it on.

    Returns:
        0 at best; NaN where nothing is judged.

    Raises:
        ValueError: As `calculate_specks`; or `farthest` is not beyond `nearest`.
    """
    if farthest <= nearest:
        raise ValueError(f"farthest must be more than nearest, which is {nearest}, not {farthest}")
    image, truth = prepare(img, img2, crop_border=crop_border, input_order=input_order)
    near = _is_flat(truth, nearest, tolerance) & ~_is_flat(truth, farthest, tolerance)
    return _rms(image - truth, near)


def _is_flat(truth: NDArray[np.float64], distance: int, tolerance: float) -> NDArray[np.bool_]:
    """Return (H, W): where a truth (H, W, C) is flat to a distance."""
    if distance < 0 or tolerance < 0:
        raise ValueError(f"distances and the tolerance must be at least 0, not {distance} and {tolerance}")
    around = np.ones((2 * distance + 1,) * 2, np.uint8)
    spread = cv2.dilate(truth, around) - cv2.erode(truth, around)  # beyond the border, OpenCV has neither
    return np.asarray((spread.reshape(*truth.shape[:2], -1) <= tolerance).all(-1))


def _rms(differences: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    """Return the RMS of (H, W, C) at some pixels, NaN of none."""
    return math.sqrt(np.mean(differences[where] ** 2)) if where.any() else math.nan
