"""Clean images and their JPEGs, for the removal of compression artefacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions, Problem, check_range, sample_integer
from semanir_plugin.degradations.compression import compress_jpeg
from semanir_plugin.inference.images import Channels
from semanir_plugin.pixels import FloatImage, to_float, to_uint8
from semanir_plugin.registry import DATASETS

__all__ = ["JPEGDataset", "JPEGOptions"]


@dataclass(frozen=True, kw_only=True)
class JPEGOptions(CleanImageOptions):
    """Options of `JPEGDataset`.

    Attributes:
        quality: Of OpenCV's encoder, or in training [low, high] to draw it from for each patch, both included.
        num_channels: 3, compressed 4:2:0, or 1 for the Y of YCbCr.
    """

    quality: int | Sequence[int]
    num_channels: Literal[1, 3] = 3

    def phase_problems(self, *, training: bool) -> Iterator[Problem]:
        """Yield the problems of the values."""
        yield from check_range("quality", self.quality, least=1, most=100, training=training)


@DATASETS.register
class JPEGDataset(CleanImageDataset):
    """Clean images, rounded to 8 bit, and their JPEGs. The blocks of a patch start at its corner.

    Options are `JPEGOptions` and those of `CleanImageDataset`.
    """

    OPTIONS = JPEGOptions

    @property
    def channels(self) -> Channels:
        """The channels that images are decoded to; see `decode_image`."""
        return "color" if self.options.num_channels == 3 else "y"

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Round and compress."""
        pixels = to_uint8(clean)
        return to_float(compress_jpeg(pixels, sample_integer(self.options.quality))), to_float(pixels)
