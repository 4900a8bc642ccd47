"""Position biases for windowed attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semanir_plugin.ops.common.position_table import dense_bias

__all__ = ["ContinuousPositionBias"]


class ContinuousPositionBias(nn.Module):
    """A small MLP from log-spaced relative coordinates to one bias per head (Swin V2, section 3.3).

    Args:
        window_size: Side of the window in tokens.
        num_heads: Heads that get a bias each.
        hidden: Width of the MLP.
    """

    MAXIMUM = 16.0

    coordinates: Tensor

    def __init__(self, window_size: int, num_heads: int, *, hidden: int = 512) -> None:
        super().__init__()
        self.window_size = window_size
        self.mlp = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, num_heads, bias=False))
        self.register_buffer("coordinates", _log_coordinates(window_size), persistent=False)

    def table(self) -> Tensor:
        """Return (heads, 2w - 1, 2w - 1): the bias of every relative position, in (0, 16); fp32 also under autocast."""
        with torch.autocast(self.coordinates.device.type, enabled=False):
            return self.MAXIMUM * torch.sigmoid(self.mlp(self.coordinates)).permute(2, 0, 1)

    def forward(self) -> Tensor:
        """Return the dense bias, (heads, N, N) for N = window_size ** 2, query first."""
        return dense_bias(self.table(), self.window_size**2)


def _log_coordinates(window_size: int) -> Tensor:
    offsets = torch.arange(1 - window_size, window_size, dtype=torch.float32) * (8 / max(window_size - 1, 1))
    offsets = torch.sign(offsets) * torch.log2(1 + offsets.abs()) / 3
    return torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), dim=-1)  # (2w - 1, 2w - 1, 2)
