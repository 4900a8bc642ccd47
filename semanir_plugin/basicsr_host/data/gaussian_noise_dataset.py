"""Clean images with Gaussian noise, for denoising."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions, Problem, check_range, sample_uniform
from semanir_plugin.degradations.noise import NoiseOrder, add_gaussian_noise
from semanir_plugin.inference.images import Channels
from semanir_plugin.pixels import FloatImage, to_float, to_uint8
from semanir_plugin.registry import DATASETS

__all__ = ["GaussianNoiseDataset", "GaussianNoiseOptions"]


@dataclass(frozen=True, kw_only=True)
class GaussianNoiseOptions(CleanImageOptions):
    """Options of `GaussianNoiseDataset`.

    Attributes:
        sigma: Standard deviation on the scale of 0 to 255, or in training [low, high] to draw it from for each patch.
        num_channels: 3, or 1 for gray.
        noise_seed: Seed of the realisation on which images are scored, the same for each; training draws anew.
        noise_order: Order of the channels in which that is drawn: "bgr" (SwinIR, KAIR) or "rgb" (Restormer).
        rounded: Whether inputs are clipped and rounded to 8 bit, as files have them.
    """

    sigma: float | Sequence[float]
    num_channels: Literal[1, 3] = 3
    noise_seed: int = 0
    noise_order: NoiseOrder = "bgr"
    rounded: bool = False

    def phase_problems(self, *, training: bool) -> Iterator[Problem]:
        """Yield the problems of the values."""
        yield from check_range("sigma", self.sigma, least=0, most=255, training=training)
        if not 0 <= self.noise_seed < 2**32:
            yield "noise_seed", f"noise_seed must be from 0 to 2**32 - 1, not {self.noise_seed}"


@DATASETS.register
class GaussianNoiseDataset(CleanImageDataset):
    """Clean images and their noisy copies, neither clipped nor quantised unless that is asked for.

    Options are `GaussianNoiseOptions` and those of `CleanImageDataset`.
    """

    OPTIONS = GaussianNoiseOptions

    @property
    def channels(self) -> Channels:
        """The channels that images are decoded to; see `decode_image`."""
        return "color" if self.options.num_channels == 3 else "gray"

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Add noise."""
        seed = None if self.training else self.options.noise_seed
        sigma = sample_uniform(self.options.sigma)
        noisy = add_gaussian_noise(clean, sigma, seed=seed, order=self.options.noise_order)
        return (to_float(to_uint8(noisy)) if self.options.rounded else noisy), clean
