"""The negative PSNR."""

from __future__ import annotations

import math

from torch import Tensor

from semanir_plugin.color import luma_rgb
from semanir_plugin.losses.image_loss import ImageLoss, Reduction
from semanir_plugin.registry import LOSSES

__all__ = ["PSNRLoss"]

_EPSILON = 1e-8


@LOSSES.register
class PSNRLoss(ImageLoss):
    """10 log10(MSE + 1e-8) of each image, which is minus its PSNR in dB, as HINet and NAFNet are trained with.

    With reduction "none" the values are (N,).

    Args:
        loss_weight: Factor.
        reduction: "none", "mean" or "sum", over the images.
        toY: Compare the Y of YCbCr, of RGB images.
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
        toY: bool = False,  # noqa: N803  # so it is spelt in those papers' option files
    ) -> None:
        super().__init__(loss_weight=loss_weight, reduction=reduction)
        self.to_y = toY

    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the value of each image.

        Raises:
            ValueError: The Y of images without three channels is asked for.
        """
        if self.to_y:
            if pred.shape[1] != 3:
                raise ValueError(f"toY needs images of 3 channels, not {pred.shape[1]}; gray ones need no conversion")
            pred, target = luma_rgb(pred), luma_rgb(target)
        mse = (pred - target).square().mean(dim=(1, 2, 3))
        return 10 / math.log(10) * (mse + _EPSILON).log()
