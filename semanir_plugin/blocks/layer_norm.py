"""The layer normalisation of blocks."""

from __future__ import annotations

from torch import Tensor, nn

from semanir_plugin.ops.layer_norm import layer_norm

__all__ = ["LayerNorm"]


class LayerNorm(nn.LayerNorm):
    """PyTorch's layer normalisation of the last dimension, which can add its result to a residual: `ops.layer_norm`.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (..., dim) to the same shape, and add the result to `residual` of that shape if there is one."""
        return layer_norm(input, self.weight, self.bias, eps=self.eps, residual=residual)
