"""Haze, by the model of atmospheric scattering."""

from __future__ import annotations

import cv2
import numpy as np

from semanir_plugin.pixels import FloatImage

__all__ = ["AIRLIGHT", "add_haze", "draw_depth"]

AIRLIGHT = (0.7, 1.0)
"""From which RESIDE draws the light of the haze."""

# What is drawn for each image: from, to.
HORIZON = (-0.5, 0.6)  # as a share of the height; above the image: nothing is infinitely far
NEAREST = (0.1, 0.5)  # depth at the lower edge
ROUGHNESS = (0.05, 0.3)  # by how much depths differ from the ramp
CELLS = (2, 6)  # of the noise, along each side


def add_haze(image: FloatImage, beta: float, *, seed: int, airlight: float = 0.9) -> FloatImage:
    """Lay haze between the scene and the camera: I = J t + A (1 - t), with a transmission t = exp(-beta d).

    RESIDE (Li et al., "Benchmarking single-image dehazing and beyond", TIP 2019, section II) makes its pairs so, on
    the values of the files and not in linear light: indoors with beta from 0.6 to 1.8 and A from 0.7 to 1, outdoors
    (OTS, SOTS) with A from 0.8 to 1 and beta from 0.04 to 0.2, where depths are an estimate in a unit of its own. A
    clean photograph has no depth, so one is drawn, which ends at 1: beta is how thick the haze is as far as one sees.

    Args:
        image: (H, W, C) in [0, 1].
        beta: Optical thickness at the depth 1; 0 is clear air, 3 leaves a twentieth of the contrast.
        seed: Decides the depth.
        airlight: A, the value of what is infinitely far, the same for all channels.

    Returns:
        The hazy image, of the same shape, in [0, 1].
    """
    depth = draw_depth(image.shape[:2], np.random.default_rng(seed))
    transmission = np.exp(-np.float32(beta) * depth)[..., None]
    result: FloatImage = image * transmission + np.float32(airlight) * (1 - transmission)
    return result


def draw_depth(size: tuple[int, ...], generator: np.random.Generator) -> FloatImage:
    """Draw a depth (H, W) in [0, 1]: a ramp from the ground to the horizon, and smooth noise."""
    horizon, nearest, roughness = (generator.uniform(*limits) for limits in (HORIZON, NEAREST, ROUGHNESS))
    below = np.maximum(np.linspace(0, 1, size[0], dtype=np.float32) - horizon, 0) / (1 - horizon)
    ramp = 1 - (1 - nearest) * below
    depth = ramp[:, None] + roughness * _smooth_noise(size, generator)
    result: FloatImage = np.clip(depth, 0, 1).astype(np.float32)
    return result


def _smooth_noise(size: tuple[int, ...], generator: np.random.Generator) -> FloatImage:
    """Return (H, W), about 1 at most: a few random numbers, enlarged."""
    cells = generator.integers(*CELLS, size=2, endpoint=True)
    coarse = generator.uniform(-1, 1, cells).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)
