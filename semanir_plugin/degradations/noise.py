"""White Gaussian noise."""

from __future__ import annotations

from typing import Literal

import numpy as np

from semanir_plugin.pixels import FloatImage

__all__ = ["NoiseOrder", "add_gaussian_noise"]

NoiseOrder = Literal["bgr", "rgb"]


def add_gaussian_noise(
    image: FloatImage, sigma: float, *, seed: int | None = None, order: NoiseOrder = "bgr"
) -> FloatImage:
    """Add noise that is neither clipped nor quantised.

    The realisation moves scores, so the test sets of the denoising literature have one each: `np.random.seed(0)` for
    every image, drawn in BGR order (SwinIR, KAIR) or in RGB order (Restormer). Both are the same for one channel.

    Args:
        image: (H, W, C), BGR, in [0, 1].
        sigma: Standard deviation, on the scale of 0 to 255.
        seed: Draw the realisation of this seed; of NumPy's global generator if None.
        order: Order of the channels in which the noise is drawn.

    Returns:
        The noisy image, of the same shape, BGR as well.
    """
    generator = np.random if seed is None else np.random.RandomState(seed)
    noise = generator.normal(0, sigma / 255, image.shape)
    return (image + (noise[..., ::-1] if order == "rgb" else noise)).astype(np.float32)
