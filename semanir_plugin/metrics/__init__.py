"""Metrics that BasicSR lacks, registered in its METRIC_REGISTRY on import."""

import basicsr  # noqa: F401  # the host comes first: it registers everything, this package included

from semanir_plugin.metrics.lpips import calculate_lpips
from semanir_plugin.metrics.psnr_b import calculate_psnr_b
from semanir_plugin.metrics.ssim_rgb3d import calculate_ssim_rgb3d

__all__ = ["calculate_lpips", "calculate_psnr_b", "calculate_ssim_rgb3d"]
