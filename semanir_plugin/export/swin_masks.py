"""Masks of shifted windows of others' networks, in a form that leaves height and width free.

BasicSR's SwinIR, and what was made after it, write labels into parts of an image, which programs other than PyTorch
cannot do for any size. The labels of this package are compared instead; the masks are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from semanir_plugin.blocks.windows import shifted_regions

__all__ = ["free_masks"]

# In windows; each axis has several, and not as many as the other.
TRIED = (2, 3)


def free_masks(network: nn.Module) -> nn.Module:
    """Let layers of a network compute their masks for any size, where theirs are those of Swin; return the network."""
    for module in network.modules():
        if _has_swin_masks(module):
            layer: Any = module
            layer.calculate_mask = _Masks(layer.window_size, layer.shift_size)
            layer.input_resolution = (0, 0)  # of which it has a mask ready, for one size
    return network


class _Masks:
    """Computes the masks of a layer; a class, so that networks that have one can be copied."""

    def __init__(self, window: int, shift: int) -> None:
        self.window, self.shift = window, shift

    def __call__(self, size: tuple[int, int]) -> Tensor:
        """Return (windows, N, N): 0 for tokens of a window that were neighbours before the shift, else -100."""
        regions = shifted_regions(*size, self.window, (self.shift, self.shift), torch.device("cpu"))
        return (regions[:, :, None] != regions[:, None]).float() * -100.0


def _has_swin_masks(module: Any) -> bool:
    window, shift = (getattr(module, name, None) for name in ("window_size", "shift_size"))
    if not (isinstance(window, int) and isinstance(shift, int) and hasattr(module, "calculate_mask")):
        return False
    size = (TRIED[0] * window, TRIED[1] * window)
    try:
        return torch.equal(module.calculate_mask(size), _Masks(window, shift)(size))
    except Exception:  # whatever a method of that name takes and does
        return False
