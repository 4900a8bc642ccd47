"""L1 in the frequency domain."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from semanir_plugin.losses.image_loss import ImageLoss, Reduction
from semanir_plugin.registry import LOSSES

__all__ = ["FFTLoss"]


@LOSSES.register
class FFTLoss(ImageLoss):
    """L1 between the two-dimensional real Fourier transforms, of real and imaginary parts alike.

    Deblurring networks add it to a loss of pixels with a weight of 0.1 (Cho et al., "Rethinking Coarse-to-Fine Approach
    in Single Image Deblurring", ICCV 2021, equation 4; DeepRFT). Of each pair of conjugate frequencies one counts.
    With reduction "none" the values are (N, C, H, W // 2 + 1, 2).

    Args:
        loss_weight: Factor.
        reduction: "none", "mean" or "sum".
        norm: "backward", as those papers have it: the values grow with the side of the patch. "ortho": divided by
            sqrt(H W), so that they do not.
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
        norm: Literal["backward", "ortho"] = "backward",
    ) -> None:
        super().__init__(loss_weight=loss_weight, reduction=reduction)
        self.norm = norm

    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the absolute differences; the transform is linear, so that of the difference is enough."""
        return torch.view_as_real(torch.fft.rfft2(pred - target, norm=self.norm)).abs()
