"""Going on from a training state: with its moments and counters, and with the options as they are now."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from semanir_plugin.basicsr_host.engine.moments import check_moments, kind_problems
from semanir_plugin.basicsr_host.engine.run import Run
from semanir_plugin.basicsr_host.engine.training_states import TrainingState
from semanir_plugin.errors import UserError, one_line

__all__ = ["resume"]

ABSENT = object()


def resume(model: Any, state: TrainingState, run: Run) -> None:
    """Give a model what a training state holds, and log the options of `train` that are others since.

    Optimisers and schedulers take what the state says of their options, and not the option file. So where one of these
    has changed, they are set to what they would be at that iteration in a training that had the new ones all along.

    Raises:
        UserError: The state is of another model or optimiser, or lacks what the options need.
    """
    saved = state.content.get("train_options")  # other programs write none
    changes = [] if saved is None else list(_differences("train", saved, run.train_options))
    fresh = _Schedule.of(model)
    wanted = _Schedule.at(model, state.iteration, run) if changes or saved is None else None
    _load(model, state, run, changes)
    if wanted and saved is None:
        changes = list(_Schedule.of(model).differences(wanted))
    for change in changes:
        run.logger.info(f"Changed since iteration {state.iteration:,} was saved: {change}")
    if wanted and changes:
        wanted.apply(model)
    fresh.check_kinds(_Schedule.of(model), state.path)
    for optimizer in model.optimizers:
        check_moments(optimizer, state.path)
    model.run_state |= {"epoch": state.content.get("epoch", 0)}


def _load(model: Any, state: TrainingState, run: Run, changes: list[str]) -> None:
    before = [group.keys() for group in _groups(model)]
    try:
        _check_attributes(model.schedulers, state.content["schedulers"])
        model.resume_training(state.content)
        if [group.keys() for group in _groups(model)] != before:
            others = [change for change in changes if change.startswith("train:optim")]
            raise ValueError("it is of another optimiser" + (f" ({'; '.join(others)})" if others else ""))
    except Exception as error:
        raise UserError(
            f"{state.path}: the training state is not of this model and optimiser: {one_line(error)}; correct "
            f"{run.file.path}, or start again without resuming"
        ) from error


def _check_attributes(schedulers: list[Any], states: list[Mapping[str, Any]]) -> None:
    """Refuse states of schedulers with what a scheduler has, but does not save: its methods, its optimiser.

    Raises:
        ValueError: One has.
    """
    for index, (scheduler, state) in enumerate(zip(schedulers, states, strict=False)):
        for key in state.keys() - scheduler.state_dict().keys():
            if not isinstance(key, str) or hasattr(scheduler, key):
                raise ValueError(f"schedulers:{index} has '{key}', which no scheduler saves")


@dataclass(frozen=True)
class _Schedule:
    """Options of each group of parameters at some iteration, the learning rate among them, and states of schedulers."""

    groups: list[dict[str, Any]]
    schedulers: list[dict[str, Any]]

    @classmethod
    def of(cls, model: Any) -> _Schedule:
        groups = [{key: value for key, value in group.items() if key != "params"} for group in _groups(model)]
        return cls(deepcopy(groups), [deepcopy(scheduler.state_dict()) for scheduler in model.schedulers])

    @classmethod
    def at(cls, model: Any, iteration: int, run: Run) -> _Schedule:
        """Return the one after an iteration, by going through all, of a model that has not been trained.

        Raises:
            UserError: A scheduler cannot go so far.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of schedulers that step where no optimiser did
                for current_iter in range(1, iteration + 1):
                    model.update_learning_rate(current_iter, warmup_iter=run.opt["train"].get("warmup_iter", -1))
        except Exception as error:
            raise UserError(f"train.scheduler has no learning rate for {iteration:,}: {one_line(error)}") from error
        return cls.of(model)

    def differences(self, other: _Schedule) -> Iterator[str]:
        """Yield what differs in the groups, beyond rounding."""
        for index, (group, another) in enumerate(zip(self.groups, other.groups, strict=True)):
            yield from _differences(f"group {index} of the optimisers", group, another)

    def check_kinds(self, other: _Schedule, path: Path) -> None:
        """Refuse another one that has values of other kinds.

        Raises:
            UserError: It has.
        """
        problems = chain(
            kind_problems(self.groups, other.groups, "param_groups"),
            kind_problems(self.schedulers, other.schedulers, "schedulers"),
        )
        for problem in problems:
            raise UserError(f"{path}: {problem}; name another training state, or start again without resuming")

    def apply(self, model: Any) -> None:
        for group, options in zip(_groups(model), self.groups, strict=True):
            group.update(options)
        for scheduler, state in zip(model.schedulers, self.schedulers, strict=True):
            scheduler.load_state_dict(state)


def _groups(model: Any) -> list[dict[str, Any]]:
    return [group for optimizer in model.optimizers for group in optimizer.param_groups]


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    """Yield a line for each option in which two sections differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(f"{name}:{key}", old.get(key, ABSENT), new.get(key, ABSENT))
    elif not _alike(old, new):
        yield f"{name}: {_told(old)} -> {_told(new)}"


def _alike(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-9)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(map(_alike, old, new))
    if isinstance(old, Tensor) or isinstance(new, Tensor):
        return False  # options are none
    return bool(old == new)


def _told(value: Any) -> str:
    return "not set" if value is ABSENT else str(value)
