"""1 - SSIM."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from semanir_plugin.losses.image_loss import ImageLoss, Reduction
from semanir_plugin.registry import LOSSES

__all__ = ["SSIMLoss"]

_SIDE = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


@LOSSES.register
class SSIMLoss(ImageLoss):
    """1 - SSIM (Wang et al., "Image quality assessment: from error visibility to structural similarity", TIP 2004).

    Windows are Gaussian, 11 x 11 with sigma 1.5, and lie wholly within the image; each channel has its own, as in
    BasicSR's `calculate_ssim`. With reduction "none" the values are (N, C, H - 10, W - 10).

    Args:
        loss_weight: Factor.
        reduction: "none", "mean" or "sum".
    """

    window: Tensor

    def __init__(self, *, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(loss_weight=loss_weight, reduction=reduction)
        offsets = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
        self.register_buffer("window", torch.softmax(-(offsets**2) / (2 * _SIGMA**2), dim=0), persistent=False)

    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return 1 - SSIM of each window.

        Raises:
            ValueError: The images are smaller than a window.
        """
        if min(pred.shape[-2:]) < _SIDE:
            raise ValueError(f"SSIM needs images of at least {_SIDE} x {_SIDE}, not {tuple(pred.shape[-2:])}")
        images = torch.stack([pred, target, pred**2, target**2, pred * target])
        mean_p, mean_t, square_p, square_t, product = self._average(images)
        variance_p, variance_t = square_p - mean_p**2, square_t - mean_t**2
        covariance = product - mean_p * mean_t
        luminance = (2 * mean_p * mean_t + _C1) / (mean_p**2 + mean_t**2 + _C1)
        structure = (2 * covariance + _C2) / (variance_p + variance_t + _C2)
        out: Tensor = 1 - luminance * structure
        return out

    def _average(self, images: Tensor) -> Tensor:
        """Average over the windows of images (..., H, W)."""
        window = self.window.to(images)
        averages = conv2d(images.flatten(0, -3).unsqueeze(1), window.view(1, 1, -1, 1))  # (..., 1, H - 10, W)
        averages = conv2d(averages, window.view(1, 1, 1, -1))
        return averages.view(*images.shape[:-2], *averages.shape[-2:])
