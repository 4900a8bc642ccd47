"""Metrics that BasicSR lacks, each in `registry.METRICS`."""

from semanir_plugin.metrics.flat_ground import calculate_ringing, calculate_specks
from semanir_plugin.metrics.lpips import calculate_lpips
from semanir_plugin.metrics.matlab_y import calculate_psnr_y_matlab, calculate_ssim_y_matlab
from semanir_plugin.metrics.psnr_b import calculate_psnr_b
from semanir_plugin.metrics.ssim_rgb3d import calculate_ssim_rgb3d
from semanir_plugin.metrics.ssim_uniform7 import calculate_ssim_uniform7

__all__ = [
    "calculate_lpips",
    "calculate_psnr_b",
    "calculate_psnr_y_matlab",
    "calculate_ringing",
    "calculate_specks",
    "calculate_ssim_rgb3d",
    "calculate_ssim_uniform7",
    "calculate_ssim_y_matlab",
]
