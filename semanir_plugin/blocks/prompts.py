"""Prompts: what a network has learned of several degradations, mixed by what it sees of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semanir_plugin.blocks.linear import Linear

__all__ = ["DegradationPrompts", "modulate"]


class DegradationPrompts(nn.Module):
    """Learned prompts for several places of a network, mixed alike for all of them by features pooled over an image.

    PromptIR (Potlapalli et al., NeurIPS 2023, section 3.2) mixes prompts by weights of pooled features too, but has
    images of them, which it joins to the features; these have a scale and a shift for each channel.

    Args:
        dim: Channels of the features that tell the weights.
        places: Channels of the features at each place.
        count: Number of prompts.
    """

    def __init__(self, dim: int, places: Sequence[int], count: int) -> None:
        super().__init__()
        self.weigh = Linear(dim, count)
        self.prompts = nn.ParameterList(0.02 * torch.randn(count, 2 * each) for each in places)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map features (B, dim, H, W) to the modulation of each place, (B, 2 * its channels)."""
        weights = self.weigh(x.mean(dim=(2, 3))).softmax(dim=-1)  # (B, count)
        return [weights @ each.to(weights.dtype) for each in self.prompts]


def modulate(x: Tensor, modulation: Tensor) -> Tensor:
    """Scale and shift the channels of (B, C, H, W) by (B, 2 * C): by how much above 1, and what is added."""
    scale, shift = modulation.to(x.dtype)[..., None, None].chunk(2, dim=1)
    return torch.addcmul(x + shift, x, scale)
