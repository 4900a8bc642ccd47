"""Degradations that make an input from a clean image, one function per task; datasets and evaluation share them.

Images are NumPy arrays (H, W, C) in OpenCV's channel order, BGR, or with one channel.
"""

from semanir_plugin.degradations.bicubic import BicubicVariant, downsample_bicubic, imresize, imresize_uint8, least_side
from semanir_plugin.degradations.blur import blur, gaussian_kernel, sinc_kernel
from semanir_plugin.degradations.compression import compress_jpeg, compress_webp
from semanir_plugin.degradations.drawings import draw_picture
from semanir_plugin.degradations.haze import add_haze
from semanir_plugin.degradations.low_light import darken
from semanir_plugin.degradations.mosaic import demosaic_malvar, mosaic_rggb
from semanir_plugin.degradations.motion_blur import blur_by_motion
from semanir_plugin.degradations.noise import NoiseOrder, add_gaussian_noise, add_poisson_noise
from semanir_plugin.degradations.own_draws import generator_of
from semanir_plugin.degradations.rain import add_rain_streaks
from semanir_plugin.degradations.raindrops import add_raindrops
from semanir_plugin.degradations.real_world import MILD, DegradationStage, degrade
from semanir_plugin.degradations.resize import ResizeFilter, resize

__all__ = [
    "MILD",
    "BicubicVariant",
    "DegradationStage",
    "NoiseOrder",
    "ResizeFilter",
    "add_gaussian_noise",
    "add_haze",
    "add_poisson_noise",
    "add_rain_streaks",
    "add_raindrops",
    "blur",
    "blur_by_motion",
    "compress_jpeg",
    "compress_webp",
    "darken",
    "degrade",
    "demosaic_malvar",
    "downsample_bicubic",
    "draw_picture",
    "gaussian_kernel",
    "generator_of",
    "imresize",
    "imresize_uint8",
    "least_side",
    "mosaic_rggb",
    "resize",
    "sinc_kernel",
]
