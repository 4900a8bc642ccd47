"""Losses that BasicSR lacks, registered in its LOSS_REGISTRY on import."""

import basicsr  # noqa: F401  # the host comes first: it registers everything, this package included

from semanir_plugin.losses.fft_loss import FFTLoss
from semanir_plugin.losses.psnr_loss import PSNRLoss
from semanir_plugin.losses.ssim_loss import SSIMLoss

__all__ = ["FFTLoss", "PSNRLoss", "SSIMLoss"]
