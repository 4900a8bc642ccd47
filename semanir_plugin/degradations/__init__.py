"""Degradations that make an input from a clean image, one function per task; datasets and evaluation share them.

Images are NumPy arrays (H, W, C) in OpenCV's channel order, BGR, or with one channel.
"""

from semanir_plugin.degradations.bicubic import BicubicVariant, downsample_bicubic, imresize, imresize_uint8, least_side
from semanir_plugin.degradations.haze import add_haze
from semanir_plugin.degradations.jpeg import compress_jpeg
from semanir_plugin.degradations.low_light import darken
from semanir_plugin.degradations.mosaic import demosaic_malvar, mosaic_rggb
from semanir_plugin.degradations.motion_blur import blur_by_motion
from semanir_plugin.degradations.noise import NoiseOrder, add_gaussian_noise
from semanir_plugin.degradations.rain import add_rain_streaks

__all__ = [
    "BicubicVariant",
    "NoiseOrder",
    "add_gaussian_noise",
    "add_haze",
    "add_rain_streaks",
    "blur_by_motion",
    "compress_jpeg",
    "darken",
    "demosaic_malvar",
    "downsample_bicubic",
    "imresize",
    "imresize_uint8",
    "least_side",
    "mosaic_rggb",
]
