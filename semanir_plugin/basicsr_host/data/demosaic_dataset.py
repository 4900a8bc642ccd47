"""Dataset of clean images and of their mosaics, linearly demosaicked."""

from __future__ import annotations

from dataclasses import dataclass

from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions
from semanir_plugin.degradations.mosaic import demosaic_malvar, mosaic_rggb
from semanir_plugin.pixels import FloatImage
from semanir_plugin.registry import DATASETS

__all__ = ["DemosaicDataset", "DemosaicOptions"]


@dataclass(frozen=True, kw_only=True)
class DemosaicOptions(CleanImageOptions):
    """`DemosaicDataset` has no options of its own."""


@DATASETS.register
class DemosaicDataset(CleanImageDataset):
    """Clean images and the start images that Malvar's filters make of their RGGB mosaics.

    Every image and patch begins with a red pixel: patches are cropped, flipped and rotated before the mosaic is taken.
    Options are those of `CleanImageDataset`.
    """

    OPTIONS = DemosaicOptions

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Take the mosaic and interpolate it."""
        return demosaic_malvar(mosaic_rggb(clean)), clean
