"""Repairs of how BasicSR's models resume: what goes on in a training is what an uninterrupted one would have."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.basicsr_host.compat.state_form import REMEMBERED

__all__ = ["REPAIRS", "gather_memories"]

Memory = dict[str, Any]

# Options that a model keeps as attributes: up to this iteration, parameters whose names say so are not trained.
FROZEN_UNTIL: dict[str, Callable[[str], bool]] = {
    "fix_flow_iter": lambda name: "spynet" in name or "edvr" in name,
    "train_tsa_iter": lambda name: "fusion" not in name,
}


def training_state(self: Any) -> dict[str, Any]:
    """Training states lack the best results so far: whichever comes next is then taken for the best."""
    best = getattr(self, "best_metric_results", None)
    return {} if best is None else {"best_metric_results": plain_results(best)}


def plain_results(best: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the best results by set and metric, without NumPy's numbers, which training states refuse."""
    return {
        dataset: {name: {**record, "val": float(record["val"])} for name, record in metrics.items()}
        for dataset, metrics in best.items()
    }


_resume_training = inspect.unwrap(BaseModel.resume_training)


@functools.wraps(_resume_training)
def resume_training(self: Any, resume_state: Mapping[str, Any]) -> None:
    """`resume_training` restores optimisers and schedulers, and no more.

    Models that train a part of the network first freeze the rest in iteration 1: a resumed one trained all of it.
    """
    _resume_training(self, resume_state)
    _recall(self, resume_state.get("memories"))
    _freeze(self, resume_state["iter"])
    metrics = (self.opt.get("val") or {}).get("metrics") or {}
    best = resume_state.get("best_metric_results") or {}
    kept = {dataset: records for dataset, records in best.items() if records.keys() == set(metrics)}
    if kept:
        self.best_metric_results = kept


def _freeze(self: Any, iteration: int) -> None:
    """Freeze what was frozen after an iteration; the model itself thaws it when it is time."""
    for attribute, is_frozen in FROZEN_UNTIL.items():
        until = getattr(self, attribute, None)
        if until and not 1 < until <= iteration:
            for name, parameter in self.net_g.named_parameters():
                if is_frozen(name):
                    parameter.requires_grad_(False)


def gather_memories(model: Any) -> list[Memory]:
    """Return, on the first process, what the model of each process remembers; all processes must call this."""
    own = {name: _compact(getattr(model, name)) for name in REMEMBERED if hasattr(model, name)}
    rank, world_size = get_dist_info()
    if world_size == 1 or not own:
        return [own]
    memories: list[Memory] | None = [{} for _ in range(world_size)] if rank == 0 else None
    dist.gather_object(own, memories)
    return memories or []


def _recall(model: Any, memories: list[Memory] | None) -> None:
    rank, world_size = get_dist_info()
    if not memories:
        return
    if len(memories) != world_size:
        get_root_logger().warning(
            f"The training state is of {len(memories)} processes, here are {world_size}: what their models remembered "
            "between iterations is left out."
        )
        return
    for name, value in memories[rank].items():
        setattr(model, name, _expand(value, model.device))


def _compact(value: Any) -> Any:
    """Return a tensor on the CPU; images of at most 256 values, as those of 8 bit are, in a quarter of the memory."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim < 4 or len(value[0].unique()) > 256:
        return value.cpu()
    values, codes = value.unique(return_inverse=True)
    return {"values": values.cpu(), "codes": codes.to(torch.uint8).cpu()} if len(values) <= 256 else value.cpu()


def _expand(value: Any, device: torch.device) -> Any:
    """Undo `_compact`, to the bit."""
    if isinstance(value, dict):
        value = value["values"][value["codes"].long()]
    return value.to(device) if isinstance(value, Tensor) else value


REPAIRS: tuple[Repair, ...] = (
    (BaseModel, "training_state", training_state),
    (BaseModel, "resume_training", resume_training),
)
