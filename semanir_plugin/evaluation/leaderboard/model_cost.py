"""Measure a contestant's cost: parameters, mult-adds, time and memory, at a stated size of the input."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from semanir_plugin.errors import UserError, one_line
from semanir_plugin.evaluation.cost import count_flops, count_parameters
from semanir_plugin.evaluation.leaderboard.columns import NO_COST
from semanir_plugin.evaluation.leaderboard.contestants import PreparedContestant
from semanir_plugin.inference.tile_memory import peak_memory
from semanir_plugin.pixels import FloatImage
from semanir_plugin.schema.values import Count, FromZero

__all__ = ["CostOptions", "describe_device", "measure_cost"]

DISTURBED = 1.5  # times what the processor time accounts for


class Run(NamedTuple):
    """Seconds of one restoration, by the clock and of the processor, of all threads together."""

    clock: float
    processor: float


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """Option schema of a leaderboard's section `cost`.

    Attributes:
        size: Height and width of the input.
        runs: How often it is restored, for the time.
        warm_up: How often before that.
    """

    size: Sequence[Count] = (64, 64)
    runs: Count = 10
    warm_up: FromZero = 3

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the problems of the values."""
        if len(self.size) != 2:
            yield "size", f"size must be a height and a width in pixels, not {self.size}"


def measure_cost(restorer: PreparedContestant, channels: int, options: CostOptions) -> dict[str, Any]:
    """Measure a contestant on one noise image.

    Returns:
        What `COSTS` names, the quartiles of `time_ms`, and whether other work `disturbed` it. None is what there is
        not, or what cannot be measured here: on a GPU, processor time and disturbance.
    """
    if restorer.run is None:
        return NO_COST
    image = np.random.default_rng(0).random((*options.size, channels), np.float32)
    mult_adds, net = _count(restorer, [channels, *options.size]), _network(restorer)
    for _ in range(options.warm_up):
        restorer.run(image)
    memory = _measure_memory(restorer, image)
    runs = [_time(restorer, image) for _ in range(options.runs)]
    cost = {
        "parameters": 0 if net is None else count_parameters(net),
        "mult_adds": mult_adds,
        "memory_mib": memory,
        **_summarise(runs, on_cpu=_device(restorer).type == "cpu"),
    }
    return {key: cost[key] for key in NO_COST}


def describe_device(num_gpu: int) -> str:
    """Return the name of the device that networks run on."""
    if num_gpu:
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"


def _network(restorer: PreparedContestant) -> nn.Module | None:
    return None if restorer.model is None else restorer.model.get_bare_model(restorer.model.net_g)


class _WithKeys(nn.Module):
    """A network at a number of keys per query."""

    def __init__(self, net: nn.Module, topk: int) -> None:
        super().__init__()
        self.net = net
        self.topk = topk

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x, topk=self.topk)
        return out


def _count(restorer: PreparedContestant, size: Sequence[int]) -> int | None:
    """Return the mult-adds of a network on (C, H, W); None, and a warning, where they cannot be counted."""
    net = _network(restorer)
    if net is None or count_parameters(net) == 0:
        return None
    channels, *sides = size
    multiple, topk = restorer.model.restoration.multiple_of, restorer.model.restoration.options.topk
    height, width = (-(-side // multiple) * multiple for side in sides)  # as the input is padded
    try:
        return int(count_flops(net if topk is None else _WithKeys(net, topk), (height, width), channels=channels))
    except Exception as error:  # it runs any network's own code
        get_root_logger().warning(f"{type(net).__name__}: mult-adds cannot be counted: {one_line(error)}")
        return None


def _device(restorer: PreparedContestant) -> torch.device:
    return torch.device("cpu") if restorer.model is None else restorer.model.device


def _measure_memory(restorer: PreparedContestant, image: FloatImage) -> float | None:
    try:
        return max(0, peak_memory(lambda: restorer.run and restorer.run(image), _device(restorer))) / 2**20
    except UserError:  # on systems that do not tell
        return None


def _time(restorer: PreparedContestant, image: FloatImage) -> Run:
    assert restorer.run is not None
    clock, processor = time.perf_counter(), time.process_time()
    restorer.run(image)
    run = Run(time.perf_counter() - clock, time.process_time() - processor)
    return run if restorer.model is None else run._replace(clock=restorer.model.seconds_per_image[-1])


def _summarise(runs: Sequence[Run], *, on_cpu: bool) -> dict[str, Any]:
    clocks = [1000 * run.clock for run in runs]
    low, median, high = statistics.quantiles(clocks, n=4, method="inclusive") if len(runs) > 1 else 3 * clocks
    return {
        "time_ms": median,
        "time_low_ms": low,
        "time_high_ms": high,
        "processor_time_ms": 1000 * min(run.processor for run in runs) if on_cpu else None,
        "disturbed": _is_disturbed(runs) if on_cpu else None,
    }


def _is_disturbed(runs: Sequence[Run]) -> bool:
    """Return whether the clock ran on while the process had to wait: at least one of its threads always has work.

    How many work at once differs by network; the run of which the processor did most at a time shows it.
    """
    threads = max(1, *(run.processor / run.clock for run in runs))
    expected = min(run.processor for run in runs) / threads
    return statistics.median(run.clock for run in runs) > DISTURBED * expected
