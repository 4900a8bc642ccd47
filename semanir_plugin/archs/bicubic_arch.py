"""Bicubic enlargement as an architecture, so that the baseline is scored by the very code that scores networks."""

from __future__ import annotations

import torch
from basicsr.utils.matlab_functions import imresize
from torch import Tensor, nn

from semanir_plugin.registry import ARCHS

__all__ = ["Bicubic"]


@ARCHS.register
class Bicubic(nn.Module):
    """MATLAB's bicubic `imresize`, without parameters.

    Args:
        upscale: Enlargement.
    """

    def __init__(self, *, upscale: int = 4) -> None:
        super().__init__()
        self.upscale = upscale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to (B, C, upscale * H, upscale * W)."""
        return torch.stack([imresize(image.cpu(), self.upscale) for image in x]).to(x)
