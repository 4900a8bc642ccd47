"""Learning rates tried before a training: what dies, or leaves its senses, at the last iteration dies at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from semanir_plugin.basicsr_host.optimization import construct, known_optimizers, known_schedulers
from semanir_plugin.errors import UserError, one_line

__all__ = ["build_optimizer", "try_schedule"]


def build_optimizer(options: Mapping[str, Any]) -> Optimizer:
    """Build an optimiser, of options as in `train.optim_g`, for a weight that matters to nobody.

    Raises:
        UserError: It refuses its options.
    """
    weight = torch.nn.Parameter(torch.zeros(2, 2))  # Muon takes matrices only
    result: Optimizer = _build("optimizer", known_optimizers(), options, [weight])
    return result


def try_schedule(optimizer: Optimizer, options: Mapping[str, Any], *, total_iter: int) -> None:
    """Build a scheduler, of options as in `train.scheduler`, and do its first step and its last.

    Args:
        optimizer: What it schedules.
        options: The scheduler's.
        total_iter: Iterations of the training.

    Raises:
        UserError: It refuses its options, cannot step, or has no learning rate of at least 0.
    """
    least, rate = options.get("eta_min"), optimizer.param_groups[0]["lr"]
    if least is not None and least >= rate:
        raise UserError(f"eta_min must be below the learning rate {rate}, where it ends, not {least}")
    scheduler = _build("scheduler", known_schedulers(), options, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of schedulers that step where no optimiser did
        for last in (0, total_iter - 2):
            if 0 <= last < total_iter - 1:
                _step_after(scheduler, last)


def _build(kind: str, known: Mapping[str, type], options: Mapping[str, Any], what: Any) -> Any:
    rest = {key: value for key, value in options.items() if key != "type"}
    try:
        return construct(kind, options["type"], known, what, **rest)
    except UserError:
        raise
    except Exception as error:  # an assert of BasicSR, an index of torch
        raise UserError(
            f"{kind} '{options['type']}' cannot be built: {one_line(error)}; correct its options"
        ) from error


def _step_after(scheduler: Any, last: int) -> None:
    """Do the step that follows iteration `last`, counted from 0.

    Raises:
        UserError: There is no learning rate then.
    """
    scheduler.last_epoch = last
    name, where = type(scheduler).__name__, f"iteration {last + 2:,}"
    try:
        scheduler.step()
    except Exception as error:
        raise UserError(f"{name} has no learning rate for {where}: {one_line(error)}; extend it") from error
    rate = scheduler.get_last_lr()[0]
    if isinstance(rate, complex) or not (math.isfinite(rate) and rate >= 0):
        raise UserError(f"{name} gives iteration {last + 2:,} the learning rate {rate}, which must be at least 0")
