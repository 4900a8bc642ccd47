"""Repairs of BasicSR's perceptual loss."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from basicsr.losses.basic_loss import PerceptualLoss
from torch import nn

from semanir_plugin.basicsr_host.compat.repairs.table import Repair

__all__ = ["REPAIRS"]

_init_perceptual = inspect.unwrap(PerceptualLoss.__init__)


@functools.wraps(_init_perceptual)
def init_perceptual(self: Any, *args: Any, **options: Any) -> None:
    """`PerceptualLoss` with `criterion: l2` dies, as it asks for `torch.nn.L2loss`, which never was."""
    given = inspect.signature(_init_perceptual).bind(self, *args, **options).arguments
    squared = given.get("criterion") == "l2"
    _init_perceptual(**{**given, **({"criterion": "l1"} if squared else {})})
    if squared:
        self.criterion_type, self.criterion = "l2", nn.MSELoss()


REPAIRS: tuple[Repair, ...] = ((PerceptualLoss, "__init__", init_perceptual),)
