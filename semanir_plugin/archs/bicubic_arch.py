"""Bicubic enlargement as an architecture, so that the baseline is scored by the very code that scores networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semanir_plugin.degradations.bicubic import bicubic_taps
from semanir_plugin.registry import ARCHS
from semanir_plugin.schema.values import Count

__all__ = ["Bicubic"]


@ARCHS.register
class Bicubic(nn.Module):
    """MATLAB's bicubic `imresize`, without parameters.

    Args:
        upscale: Enlargement.
    """

    def __init__(self, *, upscale: Count = 4) -> None:
        super().__init__()
        self.upscale = upscale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to (B, C, upscale * H, upscale * W)."""
        rows = _enlarge_rows(x.float(), self.upscale)
        return _enlarge_rows(rows.mT, self.upscale).mT.to(x).contiguous()


def _enlarge_rows(x: Tensor, scale: int) -> Tensor:
    """Map (..., H, W) to (..., scale * H, W)."""
    weights, sources = (torch.from_numpy(each).to(x.device) for each in bicubic_taps(x.shape[-2], scale))
    taps = zip(weights.to(x)[..., None], sources, strict=True)
    return sum((weight * x.index_select(-2, source) for weight, source in taps), x.new_zeros(()))
