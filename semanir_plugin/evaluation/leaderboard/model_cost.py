"""Measure a contestant's cost: parameters, multiply-adds, time and memory, at a stated size of the input."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from semanir_plugin.errors import UserError, one_line
from semanir_plugin.evaluation.cost import count_flops, count_parameters
from semanir_plugin.evaluation.leaderboard.contestants import PreparedContestant
from semanir_plugin.inference.tile_memory import peak_memory
from semanir_plugin.pixels import FloatImage
from semanir_plugin.schema.values import Count, FromZero

__all__ = ["NO_COST", "CostOptions", "describe_device", "measure_cost"]

NO_COST: dict[str, Any] = dict.fromkeys(
    ("parameters", "flops", "flops_size", "runtime_ms", "peak_memory_mib", "runtime_size")
)


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
        `parameters`; `flops`, the multiply-adds, at `flops_size` (C, H, W); at `runtime_size` the `median` of
        `runtime_ms` with its quartiles, `low` and `high`, and `peak_memory_mib`, beyond the weights. None is what
        there is not, or what cannot be measured here.
    """
    if restorer.run is None:
        return NO_COST
    size = [channels, *options.size]
    image = np.random.default_rng(0).random((*options.size, channels), np.float32)
    flops, net = _count(restorer, size), _network(restorer)
    for _ in range(options.warm_up):
        restorer.run(image)
    memory = _measure_memory(restorer, image)
    return {
        "parameters": 0 if net is None else count_parameters(net),
        "flops": flops,
        "flops_size": size if flops is not None else None,
        "runtime_ms": _summarise([1000 * _time(restorer, image) for _ in range(options.runs)]),
        "peak_memory_mib": memory,
        "runtime_size": size,
    }


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
        return self.net(x, topk=self.topk)


def _count(restorer: PreparedContestant, size: Sequence[int]) -> int | None:
    """Return the multiply-adds of a network on (C, H, W); None, and a warning, where they cannot be counted."""
    net = _network(restorer)
    if net is None or count_parameters(net) == 0:
        return None
    channels, *sides = size
    multiple, topk = restorer.model.restoration.multiple_of, restorer.model.restoration.options.topk
    height, width = (-(-side // multiple) * multiple for side in sides)  # as the input is padded
    try:
        return int(count_flops(net if topk is None else _WithKeys(net, topk), (height, width), channels=channels))
    except Exception as error:  # it runs any network's own code
        get_root_logger().warning(f"{type(net).__name__}: FLOPs cannot be counted: {one_line(error)}")
        return None


def _measure_memory(restorer: PreparedContestant, image: FloatImage) -> float | None:
    device = restorer.model.device if restorer.model is not None else torch.device("cpu")
    try:
        return max(0, peak_memory(lambda: restorer.run and restorer.run(image), device)) / 2**20
    except UserError:  # on systems that do not tell
        return None


def _time(restorer: PreparedContestant, image: FloatImage) -> float:
    assert restorer.run is not None
    start = time.perf_counter()
    restorer.run(image)
    seconds = time.perf_counter() - start
    return restorer.model.seconds_per_image[-1] if restorer.model is not None else seconds


def _summarise(values: Sequence[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)
    return {"median": median, "low": low, "high": high}
