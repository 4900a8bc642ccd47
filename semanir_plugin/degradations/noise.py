"""White Gaussian noise, and that of photons."""

from __future__ import annotations

from typing import Literal

import numpy as np

from semanir_plugin.pixels import FloatImage

__all__ = ["NoiseOrder", "add_gaussian_noise", "add_poisson_noise", "draw_normal"]

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


def add_poisson_noise(
    image: FloatImage, scale: float, generator: np.random.Generator, *, gray: bool = False
) -> FloatImage:
    """Add noise like that of counted photons: stronger where it is bright, in the shadows weaker.

    Its distribution is the normal one of the same mean and variance, which is drawn in a tenth of the time; 256 photons
    make white, as BasicSR has it for 8 bit, and from some twenty on nobody could tell the two apart.

    Args:
        image: (H, W, C), BGR, in [0, 1].
        scale: Factor on the deviation; with 1, that of white is 16 of 255.
        generator: Of the random numbers.
        gray: Whether all channels get the same noise, that of their mean.

    Returns:
        The noisy image, of the same shape, not clipped.
    """
    light = np.clip(image.mean(2, keepdims=True) if gray else image, 0, 1)
    return image + np.float32(scale / 16) * np.sqrt(light) * draw_normal(image.shape, generator, gray=gray)


def draw_normal(shape: tuple[int, ...], generator: np.random.Generator, *, gray: bool = False) -> FloatImage:
    """Draw standard normal numbers for an image of this shape, (H, W, C); (H, W, 1) if `gray`."""
    return generator.standard_normal((*shape[:2], 1) if gray else shape, dtype=np.float32)
