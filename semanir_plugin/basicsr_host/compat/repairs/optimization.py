"""Repairs of how BasicSR builds and drives optimisers and schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from basicsr.models import lr_scheduler as host_schedulers
from basicsr.models.base_model import BaseModel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from semanir_plugin.basicsr_host import lr_schedulers, optimizers
from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.errors import UserError, near_match

__all__ = ["REPAIRS", "construct", "known_optimizers", "known_schedulers"]


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


# What a training loop that calls `step()` cannot drive, or an option file cannot express.
NEEDS_MORE = {
    *("LBFGS", "SparseAdam"),  # a closure; sparse gradients
    *("ReduceLROnPlateau", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"),  # a metric; functions
}


def known_optimizers() -> dict[str, type]:
    """Return the optimisers that `train.optim_*` can name: torch's, and ours."""
    return {name: each for module in (torch.optim, optimizers) for name, each in _classes(module, Optimizer).items()}


def known_schedulers() -> dict[str, type]:
    """Return the schedulers that `train.scheduler` can name: torch's, forks' and, first of all, the host's."""
    modules = (torch.optim.lr_scheduler, lr_schedulers, host_schedulers)
    known = {name: each for module in modules for name, each in _classes(module, LRScheduler).items()}
    return {**known, "MultiStepLR": host_schedulers.MultiStepRestartLR}


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


def _classes(module: ModuleType, base: type) -> dict[str, type]:
    """Return the public proper subclasses of `base` found in a module, by name."""
    found = {name: obj for name, obj in vars(module).items() if isinstance(obj, type) and not name.startswith("_")}
    return {
        name: obj for name, obj in found.items() if issubclass(obj, base) and obj is not base and name not in NEEDS_MORE
    }


def construct(kind: str, name: str, known: Mapping[str, type], *args: Any, **options: Any) -> Any:
    """Build the class of that name among the known ones.

    Raises:
        UserError: There is none, or it refuses the options.
    """
    if name not in known:
        near = near_match(name, known)
        hint = f"did you mean '{near}'? " if near else ""
        raise UserError(f"no {kind} '{name}'; {hint}known: {', '.join(sorted(known))}")
    try:
        return known[name](*args, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind} '{name}': {error}; correct its options") from error


REPAIRS: tuple[Repair, ...] = (
    (BaseModel, "get_optimizer", get_optimizer),
    (BaseModel, "setup_schedulers", setup_schedulers),
    (BaseModel, "update_learning_rate", update_learning_rate),
)
