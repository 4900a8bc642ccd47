"""Feed-forward networks of transformer layers."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Mlp"]


class Mlp(nn.Sequential):
    """Linear, GELU, Linear on the last dimension.

    Args:
        dim: Input and output channels.
        hidden: Channels between the two layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return super().forward(x)
