"""Repairs of how BasicSR builds and drives optimisers and schedules of the learning rate."""

from __future__ import annotations

from typing import Any

from basicsr.models.base_model import BaseModel
from torch.optim import Optimizer

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.basicsr_host.optimization import construct, known_optimizers, known_schedulers

__all__ = ["REPAIRS"]


def get_optimizer(self: Any, optim_type: str, params: Any, lr: float, **kwargs: Any) -> Optimizer:
    """`get_optimizer` knows Adam only; here any class of `torch.optim` goes by its name.

    Raises:
        UserError: There is no such optimiser, or it refuses the options.
    """
    result: Optimizer = construct("optimizer", optim_type, known_optimizers(), params, lr=lr, **kwargs)
    return result


def setup_schedulers(self: Any) -> None:
    """`setup_schedulers` knows the host's two schedulers only, and pops 'type' from the options it was given.

    Here any class of `torch.optim.lr_scheduler` goes by its name; the host's own come first.

    Raises:
        UserError: There is no such scheduler, or it refuses the options.
    """
    known = known_schedulers()
    options = dict(self.opt["train"]["scheduler"])
    name = options.pop("type")
    self.schedulers += [construct("scheduler", name, known, optimizer, **options) for optimizer in self.optimizers]


def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
    """`update_learning_rate` writes the warm-up's rate where schedulers read the last one they set.

    Those that go on from it, MultiStepLR among them, keep the warm-up's last rate for good.
    """
    for scheduler in self.schedulers:
        groups = scheduler.optimizer.param_groups
        for group, lr in zip(groups, scheduler.get_last_lr(), strict=True):
            group["lr"] = lr
        if current_iter > 1:
            scheduler.step()
        if current_iter < warmup_iter:
            for group in groups:
                group["lr"] = group["initial_lr"] * current_iter / warmup_iter


REPAIRS: tuple[Repair, ...] = (
    (BaseModel, "get_optimizer", get_optimizer),
    (BaseModel, "setup_schedulers", setup_schedulers),
    (BaseModel, "update_learning_rate", update_learning_rate),
)
