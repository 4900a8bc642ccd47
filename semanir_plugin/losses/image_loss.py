"""Base class of losses between two images, in the manner of BasicSR's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from semanir_plugin.ops.common.autocast import without_autocast

__all__ = ["ImageLoss", "Reduction"]

Reduction = Literal["none", "mean", "sum"]

_REDUCE: dict[Reduction, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "mean": torch.mean, "sum": torch.sum}


class ImageLoss(nn.Module, ABC):
    """A loss between a restored image and its ground truth, computed in fp32 or better also where autocast is on.

    Args:
        loss_weight: Factor.
        reduction: Reduction of the values that `compare` returns.

    Raises:
        ValueError: There is no such reduction.
    """

    def __init__(self, *, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        if reduction not in _REDUCE:
            raise ValueError(f"reduction must be one of {', '.join(_REDUCE)}, not {reduction!r}")
        self.loss_weight = loss_weight
        self.reduction = reduction

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compare images (N, C, H, W) in [0, 1].

        Raises:
            ValueError: Their shapes differ, or `compare` cannot do with them.
        """
        if pred.shape != target.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        precision = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        with without_autocast(pred.device.type):
            values = self.compare(pred.to(precision), target.to(precision))
            return self.loss_weight * _REDUCE[self.reduction](values)

    @abstractmethod
    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the values to reduce."""
