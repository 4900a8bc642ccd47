"""Learning-rate schedules of BasicSR's forks, which option files that come from there name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

__all__ = ["CosineAnnealingRestartCyclicLR", "TrueCosineAnnealingLR"]


class CosineAnnealingRestartCyclicLR(LRScheduler):
    """Restormer's schedule: a half cosine in each period, from a share of the learning rate to a rate of its own.

    Iteration t of a period of T has the rate `eta + weight / 2 * (lr - eta) * (1 + cos(pi * t / T))`.

    Args:
        optimizer: What it schedules.
        periods: Iterations of each period.
        restart_weights: For each period, the share of the learning rate that it starts with.
        eta_mins: For each period, the learning rate that it ends with.
        last_epoch: Iterations that are done, less one.

    Raises:
        ValueError: The lists are not of one length.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        periods: Sequence[int],
        restart_weights: Sequence[float] = (1,),
        eta_mins: Sequence[float] = (0,),
        last_epoch: int = -1,
    ) -> None:
        if not len(periods) == len(restart_weights) == len(eta_mins):
            counts = f"{len(periods)}, {len(restart_weights)} and {len(eta_mins)}"
            raise ValueError(f"periods, restart_weights and eta_mins need one entry per period each, not {counts}")
        self.periods, self.restart_weights, self.eta_mins = periods, restart_weights, eta_mins
        self.ends = list(accumulate(periods))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the learning rates of this iteration; after the last period, as it ends."""
        period = next((index for index, end in enumerate(self.ends) if self.last_epoch < end), len(self.ends) - 1)
        length, weight, eta = self.periods[period], self.restart_weights[period], self.eta_mins[period]
        done = min(self.last_epoch - (self.ends[period] - length), length) / length
        return [eta + weight / 2 * (rate - eta) * (1 + math.cos(math.pi * done)) for rate in self.base_lrs]


class TrueCosineAnnealingLR(CosineAnnealingLR):
    """NAFNet's name of torch's `CosineAnnealingLR`."""
