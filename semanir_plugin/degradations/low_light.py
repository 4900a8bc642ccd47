"""Photographs in too little light."""

from __future__ import annotations

import numpy as np

from semanir_plugin.degradations.linear_light import from_linear, to_linear
from semanir_plugin.pixels import FloatImage

__all__ = ["darken"]

# What is drawn for each image: from, to.
FULL_WELL = (1000.0, 8000.0)  # electrons of what was white, before the light went
READ_NOISE = (1.0, 6.0)  # electrons


def darken(image: FloatImage, exposure: float, *, seed: int, gamma: float = 1.0) -> FloatImage:
    """Take a photograph again with less light, and with the noise of its sensor.

    In linear light the scene becomes `exposure * scene ** gamma`; then the sensor counts electrons, whose number is
    Poisson's, and reads them with Gaussian noise (Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting
    for single-image raw-data", TIP 2008). The noise of a pixel is its own, as if nothing had been demosaicked; it
    follows no published set.

    Args:
        image: (H, W, C) in [0, 1], sRGB.
        exposure: Share of the light that is left, above 0; 1 keeps it, and adds noise alone.
        seed: Decides the noise and its strength.
        gamma: Exponent of the scene; above 1 the shadows lose more than the lights.

    Returns:
        The dark image, of the same shape, in [0, 1], not quantised.
    """
    generator = np.random.default_rng(seed)
    full_well, read_noise = generator.uniform(*FULL_WELL), generator.uniform(*READ_NOISE)
    scene = to_linear(image)
    electrons = full_well * exposure * (scene if gamma == 1 else scene**gamma)
    counted = generator.poisson(electrons) + generator.normal(0, read_noise, image.shape)
    return from_linear(np.clip(counted / full_well, 0, 1).astype(np.float32))
