"""Datasets, registered on import, and a sampler, seeding and checks of data for exact training."""

import basicsr  # noqa: F401  # the host comes first: it registers everything, this package included

from semanir_plugin.basicsr_host.data.bicubic_sr_dataset import BicubicSRDataset
from semanir_plugin.basicsr_host.data.demosaic_dataset import DemosaicDataset
from semanir_plugin.basicsr_host.data.gaussian_noise_dataset import GaussianNoiseDataset
from semanir_plugin.basicsr_host.data.jpeg_dataset import JPEGDataset
from semanir_plugin.basicsr_host.data.mixed_degradation_dataset import MixedDegradationDataset
from semanir_plugin.basicsr_host.data.mixed_paired_dataset import MixedPairedDataset
from semanir_plugin.basicsr_host.data.real_world_dataset import RealWorldDataset

__all__ = [
    "BicubicSRDataset",
    "DemosaicDataset",
    "GaussianNoiseDataset",
    "JPEGDataset",
    "MixedDegradationDataset",
    "MixedPairedDataset",
    "RealWorldDataset",
]
