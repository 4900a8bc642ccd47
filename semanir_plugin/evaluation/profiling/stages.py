"""Profile each part of a network: parameters, operations, time and memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from semanir_plugin.blocks import AdaptiveSparseStage, KeySemanticStage
from semanir_plugin.evaluation.cost import count_by_module, count_parameters
from semanir_plugin.evaluation.profiling.clock import peak_mib, time_ms

__all__ = ["StageCost", "find_stages", "profile_stages"]

STAGES = (KeySemanticStage, AdaptiveSparseStage)
REST = "(rest)"
TOTAL = "total"


@dataclass(frozen=True)
class StageCost:
    """Cost of a part of a network, for one image.

    Attributes:
        name: Of the module; "(rest)" is what lies between them, "total" the network.
        kind: Its class.
        parameters: Their number.
        gflops: Operations in units of 10^9, as `cost.count_flops` counts them.
        milliseconds: Median time.
        mib: By how much it raises the memory in use at its peak; parts do not add up. None: cannot be measured.
    """

    name: str
    kind: str
    parameters: int
    gflops: float
    milliseconds: float
    mib: float | None


def find_stages(network: nn.Module) -> dict[str, nn.Module]:
    """Return the parts to profile: a network's children; entries of lists and our stages each on its own."""
    return dict(part for name, child in network.named_children() for part in _split(name, child))


def _split(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    holds_stages = any(isinstance(each, STAGES) for each in module.modules())
    if isinstance(module, nn.ModuleList | nn.ModuleDict) or (holds_stages and not isinstance(module, STAGES)):
        for child_name, child in module.named_children():
            yield from _split(f"{name}.{child_name}", child)
    else:
        yield name, module


@torch.no_grad()
def profile_stages(network: nn.Module, size: tuple[int, int], *, channels: int, repeats: int = 3) -> list[StageCost]:
    """Measure a network part by part, in the order of its modules, then the rest and the total.

    Args:
        network: In evaluation mode, where it is to be measured.
        size: Height and width of the image.
        channels: Of the image.
        repeats: Runs of which the median time counts, after one that warms up.
    """
    stages = find_stages(network)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    image = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0)).to(device)
    run = partial(network, image)
    run()
    times = [_measure_time(run, stages, device) for _ in range(repeats)]
    memory = {**_measure_memory(run, stages, device), TOTAL: peak_mib(run, device)}
    flops = count_by_module(network, size, channels=channels)
    costs = [
        StageCost(
            name,
            type(module).__name__,
            count_parameters(module),
            flops["" if name == TOTAL else name] / 1e9,
            statistics.median(each[name] for each in times),
            memory[name],
        )
        for name, module in {**stages, TOTAL: network}.items()
    ]
    return [*costs[:-1], _rest(costs[:-1], costs[-1]), costs[-1]]


def _rest(costs: list[StageCost], total: StageCost) -> StageCost:
    """Return the cost of the total beyond the parts; None for memory, which does not add up."""
    return StageCost(
        REST,
        "",
        total.parameters - sum(cost.parameters for cost in costs),
        abs(round(total.gflops - sum(cost.gflops for cost in costs), 9)),
        max(total.milliseconds - sum(cost.milliseconds for cost in costs), 0.0),
        None,
    )


def _measure_time(run: Callable[[], Any], stages: Mapping[str, nn.Module], device: torch.device) -> dict[str, float]:
    times = dict.fromkeys([*stages, TOTAL], 0.0)

    def measure(name: str, call: Callable[[], Any]) -> None:
        times[name] += time_ms(call, device)

    with _measured(stages, measure):
        measure(TOTAL, run)
    return times


def _measure_memory(
    run: Callable[[], Any], stages: Mapping[str, nn.Module], device: torch.device
) -> dict[str, float | None]:
    peaks: dict[str, float | None] = dict.fromkeys(stages, 0.0)

    def measure(name: str, call: Callable[[], Any]) -> None:
        rise, before = peak_mib(call, device), peaks[name]
        peaks[name] = None if rise is None or before is None else max(before, rise)

    with _measured(stages, measure):
        run()
    return peaks


@contextmanager
def _measured(stages: Mapping[str, nn.Module], measure: Callable[[str, Callable[[], Any]], None]) -> Iterator[None]:
    """Route every call of a stage through `measure`, under its name."""
    owned = {name: vars(module).get("forward") for name, module in stages.items()}  # of compiled ones
    for name, module in stages.items():
        module.forward = partial(_call, partial(measure, name), module.forward)
    try:
        yield
    finally:
        for name, module in stages.items():
            del module.forward
            vars(module).update({"forward": owned[name]} if owned[name] is not None else {})


def _call(measure: Callable[[Callable[[], Any]], None], forward: Callable[..., Any], *args: Any, **options: Any) -> Any:
    results: list[Any] = []
    measure(lambda: results.append(forward(*args, **options)))
    return results[0]
