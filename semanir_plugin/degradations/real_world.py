"""What happens to pictures on their way to a screen: blur, resizing, noise and compression, once or several times.

The scheme of Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data" (2021),
section 3, and of Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution" (2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import cv2
import numpy as np

from semanir_plugin.degradations.blur import blur, gaussian_kernel, sinc_kernel
from semanir_plugin.degradations.compression import compress_jpeg, compress_webp
from semanir_plugin.degradations.noise import add_poisson_noise, draw_normal
from semanir_plugin.degradations.resize import ResizeFilter, resize
from semanir_plugin.pixels import FloatImage, to_float, to_uint8
from semanir_plugin.schema.values import Share

__all__ = ["MILD", "DegradationStage", "degrade"]

KernelKind = Literal["iso", "aniso", "sinc"]
Generator = np.random.Generator

BLOCK = 8  # side of JPEG's blocks


@dataclass(frozen=True, kw_only=True)
class DegradationStage:
    """One round of damage: blur, resizing, noise, compression, each drawn anew for every picture.

    Names are those of BasicSR's RealESRGANDataset and RealESRGANModel where these have the same.

    Attributes:
        prob: How often the stage happens at all.
        blur_prob: How often it blurs.
        kernel_list: Kinds of blur: `iso`, a round Gaussian, `aniso`, one drawn out, and `sinc`, which rings.
        kernel_prob: How often each of them is taken, in proportion to the others.
        blur_sigma: Standard deviation of the Gaussians in pixels, [low, high].
        sinc_cutoff: Highest frequency that `sinc` lets pass in radians per pixel, [low, high].
        resize_prob: How often it enlarges, reduces and keeps the size, in proportion. The last stage reduces to the
            size of the input instead.
        resize_range: Least and largest factor of resizing.
        resize_list: Filters that it resizes by.
        antialias_prob: How often the filter is widened against aliasing, where the picture gets smaller.
        noise_prob: How often it adds noise.
        gaussian_noise_prob: How often that is Gaussian; otherwise it is that of photons.
        noise_range: Standard deviation of Gaussian noise on the scale of 0 to 255, [low, high].
        poisson_scale_range: Factor on the noise of photons, [low, high]; with 1, that of white is 16 of 255.
        gray_noise_prob: How often all channels get the same noise.
        compression_prob: How often it compresses.
        webp_prob: How often by WebP; otherwise by JPEG.
        jpeg_range: Quality of both, [low, high].
        crop_prob: How often the blocks of JPEG do not begin at the corner, as in pictures that were cropped since.
    """

    prob: Share = 1.0
    blur_prob: Share = 0.8
    kernel_list: Sequence[KernelKind] = ("iso", "aniso", "sinc")
    kernel_prob: Sequence[float] = (0.6, 0.3, 0.1)
    blur_sigma: Sequence[float] = (0.2, 3.0)
    sinc_cutoff: Sequence[float] = (1.05, 3.14)
    resize_prob: Sequence[float] = (0.2, 0.6, 0.2)
    resize_range: Sequence[float] = (0.5, 1.25)
    resize_list: Sequence[ResizeFilter] = ("area", "bilinear", "bicubic", "lanczos")
    antialias_prob: Share = 0.8
    noise_prob: Share = 0.7
    gaussian_noise_prob: Share = 0.5
    noise_range: Sequence[float] = (1.0, 20.0)
    poisson_scale_range: Sequence[float] = (0.05, 2.0)
    gray_noise_prob: Share = 0.4
    compression_prob: Share = 0.8
    webp_prob: Share = 0.1
    jpeg_range: Sequence[int] = (30, 95)
    crop_prob: Share = 0.3

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the options that cannot be right, each with what is wrong."""
        yield from _range_problem("blur_sigma", self.blur_sigma, 0.01, 100)
        yield from _range_problem("sinc_cutoff", self.sinc_cutoff, 0.1, 3.15)
        yield from _range_problem("resize_range", self.resize_range, 0.05, 8)
        yield from _range_problem("noise_range", self.noise_range, 0, 255)
        yield from _range_problem("poisson_scale_range", self.poisson_scale_range, 0, 100)
        yield from _range_problem("jpeg_range", self.jpeg_range, 1, 100)
        yield from _shares_problem("kernel_prob", self.kernel_prob, len(self.kernel_list))
        yield from _shares_problem("resize_prob", self.resize_prob, 3)
        if not self.resize_list:
            yield "resize_list", "resize_list is empty: add a filter"


MILD = DegradationStage(
    blur_sigma=(0.2, 1.5), noise_range=(1.0, 10.0), poisson_scale_range=(0.05, 1.0), jpeg_range=(40, 90)
)
"""One round of damage, as pictures from phones and the web have it; networks for real pictures are scored on it."""


def _range_problem(name: str, value: Sequence[float], least: float, most: float) -> Iterator[tuple[str, str]]:
    if len(value) != 2 or not least <= value[0] <= value[1] <= most:
        yield name, f"{name} must be [low, high] from {least} to {most}, not {list(value)}"


def _shares_problem(name: str, value: Sequence[float], count: int) -> Iterator[tuple[str, str]]:
    if len(value) != count or min(value, default=0) < 0 or not 0 < sum(value) < float("inf"):
        yield name, f"{name} must be {count} shares, not negative and not all 0, not {list(value)}"


def degrade(
    clean: FloatImage, size: tuple[int, int], stages: Sequence[DegradationStage], generator: Generator
) -> FloatImage:
    """Damage a picture as the stages say, one after the other.

    Args:
        clean: (H, W, 3), BGR, in [0, 1].
        size: Height and width of the result.
        stages: At least one; the last that happens resizes to `size`, before its noise and compression.
        generator: Decides everything that is drawn.

    Returns:
        (*size, 3), in [0, 1], multiples of 1/255.
    """
    happening = [stage for stage in stages if _happens(stage.prob, generator)]
    image = clean
    for stage in happening[:-1]:
        image = _run_stage(image, stage, _draw_size(image, stage, size, generator), generator)
    for stage in happening[-1:]:
        image = _run_stage(image, stage, size, generator)
    if image.shape[:2] != size:  # no stage happened
        image = resize(image, size, "bicubic")
    return to_float(to_uint8(image))


def _run_stage(image: FloatImage, stage: DegradationStage, size: tuple[int, int], generator: Generator) -> FloatImage:
    if _happens(stage.blur_prob, generator):
        image = _blur(image, stage, generator)
    if size != image.shape[:2]:
        kind = stage.resize_list[int(generator.integers(len(stage.resize_list)))]
        image = resize(image, size, kind, antialias=_happens(stage.antialias_prob, generator))
    if _happens(stage.noise_prob, generator):
        image = _add_noise(image, stage, generator)
    if _happens(stage.compression_prob, generator):
        image = _compress(image, stage, generator)
    return image


def _happens(share: float, generator: Generator) -> bool:
    return bool(generator.random() < share)


def _draw(limits: Sequence[float], generator: Generator) -> float:
    low, high = limits
    return generator.uniform(low, high)


def _choose(shares: Sequence[float], generator: Generator) -> int:
    return int(np.searchsorted(np.cumsum(shares) / np.sum(shares), generator.random(), side="right"))


def _blur(image: FloatImage, stage: DegradationStage, generator: Generator) -> FloatImage:
    kind = stage.kernel_list[_choose(stage.kernel_prob, generator)]
    if kind == "sinc":
        cutoff = _draw(stage.sinc_cutoff, generator)
        return blur(image, sinc_kernel(_odd(4 * np.pi / cutoff), cutoff))
    sigma, across, angle = (_draw(each, generator) for each in (stage.blur_sigma, stage.blur_sigma, (0, np.pi)))
    if kind == "aniso":
        return blur(image, gaussian_kernel(_odd(3 * max(sigma, across)), sigma, across, angle))
    side = _odd(3 * sigma)
    return np.asarray(cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def _odd(reach: float) -> int:
    return 2 * max(1, ceil(reach)) + 1


def _draw_size(
    image: FloatImage, stage: DegradationStage, least: tuple[int, int], generator: Generator
) -> tuple[int, int]:
    """Return a size that a stage resizes to, which is not below the last one's."""
    low, high = stage.resize_range
    ranges = ((max(low, 1.0), max(high, 1.0)), (min(low, 1.0), min(high, 1.0)), (1.0, 1.0))
    factor = generator.uniform(*ranges[_choose(stage.resize_prob, generator)])
    height, width = (max(round(side * factor), limit) for side, limit in zip(image.shape, least, strict=False))
    return height, width


def _add_noise(image: FloatImage, stage: DegradationStage, generator: Generator) -> FloatImage:
    gray = _happens(stage.gray_noise_prob, generator)
    if _happens(stage.gaussian_noise_prob, generator):
        sigma = np.float32(_draw(stage.noise_range, generator) / 255)
        return image + sigma * draw_normal(image.shape, generator, gray=gray)
    return add_poisson_noise(image, _draw(stage.poisson_scale_range, generator), generator, gray=gray)


def _compress(image: FloatImage, stage: DegradationStage, generator: Generator) -> FloatImage:
    quality = int(generator.integers(stage.jpeg_range[0], stage.jpeg_range[1], endpoint=True))
    pixels = to_uint8(image)
    if _happens(stage.webp_prob, generator):
        return to_float(compress_webp(pixels, quality))
    top, left = generator.integers(0, BLOCK, 2) if _happens(stage.crop_prob, generator) else (0, 0)
    pixels = np.pad(pixels, ((top, 0), (left, 0), (0, 0)), mode="edge")
    return to_float(compress_jpeg(pixels, quality)[top:, left:])
