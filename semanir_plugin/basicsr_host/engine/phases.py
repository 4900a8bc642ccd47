"""Progressive training: phases that differ in the size and number of their patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semanir_plugin.schema.values import Count

__all__ = ["PHASE_LISTS", "Phase", "PhaseOptions", "plan_phases"]


@dataclass(frozen=True, kw_only=True)
class PhaseOptions:
    """Options of `datasets.train` for patches that grow: lists with one entry per phase.

    Attributes:
        gt_sizes: Side of the patches of ground truth in pixels.
        batch_sizes_per_gpu: Samples of each process in an iteration.
        iters: Iterations; they add up to `total_iter`.
    """

    gt_sizes: Sequence[Count] | None = None
    batch_sizes_per_gpu: Sequence[Count] | None = None
    iters: Sequence[Count] | None = None


PHASE_LISTS: dict[str, str | None] = {
    "gt_sizes": "gt_size",
    "batch_sizes_per_gpu": "batch_size_per_gpu",
    "iters": None,
}
"""Options of `datasets.train` with one entry per phase, and the option that each stands for in training without."""


@dataclass(frozen=True)
class Phase:
    """Iterations that share a patch size and a batch size.

    Attributes:
        dataset_opt: Options of the training dataset, with the `gt_size` and `batch_size_per_gpu` of this phase.
        batch_size: Samples per iteration and process.
        start_iter: Iterations before it.
        stop_iter: Iterations when it is done.
        first_position: Samples that all processes together drew before it.
    """

    dataset_opt: dict[str, Any]
    batch_size: int
    start_iter: int
    stop_iter: int
    first_position: int


def plan_phases(opt: Mapping[str, Any]) -> list[Phase]:
    """Return the phases of a training from first to last; without lists of sizes there is one.

    Restormer trains so (Zamir et al., CVPR 2022, section 4, "progressive learning"). The phases share one sequence of
    samples, in which each goes on where the last stopped.

    Args:
        opt: Resolved options.
    """
    gpus = 1 if opt["dist"] else max(opt["num_gpu"], 1)  # BasicSR's DataParallel loads for all GPUs at once
    phases, iteration, position = [], 0, 0
    for dataset_opt, count in _split(opt["datasets"]["train"], opt["train"]["total_iter"]):
        batch_size = dataset_opt["batch_size_per_gpu"] * gpus
        phases.append(Phase(dataset_opt, batch_size, iteration, iteration + count, position))
        iteration += count
        position += count * batch_size * opt["world_size"]
    return phases


def _split(dataset_opt: Mapping[str, Any], total_iter: int) -> list[tuple[dict[str, Any], int]]:
    if "gt_sizes" not in dataset_opt:
        return [(dict(dataset_opt), total_iter)]
    columns = (dataset_opt[key] for key in PHASE_LISTS)
    return [
        ({**dataset_opt, "gt_size": size, "batch_size_per_gpu": batch}, count)
        for size, batch, count in zip(*columns, strict=True)
    ]
