"""What does not go with a protocol: scales, names, and datasets whose inputs would be others than a leaderboard's."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from semanir_plugin.basicsr_host.scoring.protocols import Degradation, Protocol
from semanir_plugin.schema.values import describe_value

__all__ = ["dataset_problems", "protocol_problems"]

Problem = tuple[str, str]  # an option, and what is wrong with it

_PAIRS = "PairedImageDataset"
_OTHER_TRUTHS = ("color", "mean", "std")  # options by which that gives other pixels than its files have


def protocol_problems(protocol: Protocol, scale: int, blocks: Collection[str]) -> Iterator[str]:
    """Yield why a protocol does not go with a scale, or with the names of metrics beside it."""
    if problem := protocol.problem_of_scale(scale):
        yield problem
    for metric in protocol.metrics:
        if metric.name in blocks:
            yield f"{metric.name} is a metric of the protocol {protocol.name} too: rename yours"


def dataset_problems(protocol: Protocol, dataset: type, options: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield by which options a dataset gives other inputs or ground truths than a leaderboard of this protocol.

    Args:
        protocol: Protocol that scores it.
        dataset: Its class; of others than the plugin's and BasicSR's pairs nothing is known, and nothing yielded.
        options: Its section of the option file.
    """
    if _PAIRS in (base.__name__ for base in dataset.__mro__):
        yield from _pair_problems(protocol, options)
    elif hasattr(dataset, "OPTIONS"):
        if protocol.degrade is None or dataset.__name__ != protocol.degrade.dataset:
            yield "type", f"{dataset.__name__} does not make what {protocol.label} scores: take {_takes(protocol)}"
        else:
            yield from _degradation_problems(protocol.label, protocol.degrade, dataset.OPTIONS, options)


def _pair_problems(protocol: Protocol, options: Mapping[str, Any]) -> Iterator[Problem]:
    if protocol.channels != "color":
        yield "type", f"{_PAIRS} does not read gray images as {protocol.label} does: take {_takes(protocol)}"
    for key in _OTHER_TRUTHS:
        if options.get(key) is not None:
            yield key, f"{key} changes the ground truths that {protocol.label} scores: remove it"


def _degradation_problems(
    label: str, degrade: Degradation, schema: Any, options: Mapping[str, Any]
) -> Iterator[Problem]:
    parameters = inspect.signature(schema).parameters
    for key, wanted in degrade.options.items():
        given = options.get(key)
        if (parameters[key].default if given is None else given) != wanted:
            value = describe_value(wanted) if wanted is None or isinstance(wanted, bool) else wanted
            yield key, f"the protocol {label} needs {key}: {value}"


def _takes(protocol: Protocol) -> str:
    made = [] if protocol.degrade is None else [protocol.degrade.dataset]
    return " or ".join(made + ([_PAIRS] if protocol.channels == "color" else []))
