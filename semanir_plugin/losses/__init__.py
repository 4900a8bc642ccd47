"""Losses that BasicSR lacks, each in `registry.LOSSES`."""

from semanir_plugin.losses.fft_loss import FFTLoss
from semanir_plugin.losses.psnr_loss import PSNRLoss
from semanir_plugin.losses.ssim_loss import SSIMLoss

__all__ = ["FFTLoss", "PSNRLoss", "SSIMLoss"]
