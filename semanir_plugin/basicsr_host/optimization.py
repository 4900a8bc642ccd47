"""Optimisers and schedules of the learning rate that options can name, and how they are built."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from semanir_plugin.basicsr_host import lr_schedulers, optimizers
from semanir_plugin.errors import UserError, near_match

__all__ = ["construct", "known_optimizers", "known_schedulers"]

# What a training loop that calls `step()` cannot drive, or an option file cannot express.
NEEDS_MORE = {
    *("LBFGS", "SparseAdam", "Muon"),  # a closure; sparse gradients; nothing but matrices, which MuonAdamW sorts out
    *("ReduceLROnPlateau", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"),  # a metric; functions
}


def known_optimizers() -> dict[str, type]:
    """Return the optimisers that `train.optim_*` can name: torch's, and ours."""
    return {name: each for module in (torch.optim, optimizers) for name, each in _classes(module, Optimizer).items()}


def known_schedulers() -> dict[str, type]:
    """Return the schedulers that `train.scheduler` can name: torch's, forks' and, first of all, the host's."""
    from basicsr.models import lr_scheduler as host_schedulers  # here, as the repairs that its import brings need this

    modules = (torch.optim.lr_scheduler, lr_schedulers, host_schedulers)
    known = {name: each for module in modules for name, each in _classes(module, LRScheduler).items()}
    return {**known, "MultiStepLR": host_schedulers.MultiStepRestartLR}


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
