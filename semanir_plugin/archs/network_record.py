"""The options of a network as a tensor among its weights, for loaders that are given nothing but the weights.

What an architecture of ours computes depends on options that leave no trace in the shapes of its weights: windows,
keys per query, similarity, shifts. Files have them beside the weights; spandrel, and whoever converts files, drops
what stands there. So the weights that are written have one tensor more, under the name `RECORD`: the options as JSON,
each character a number. They are float32, which every loader takes and which half precision keeps to the digit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["RECORD", "options_of_record", "split_record", "to_record"]

RECORD = "semanir_plugin.network_g"

LONGEST = 100_000  # characters

Value = TypeVar("Value")


def to_record(options: Mapping[str, Any]) -> Tensor:
    """Return options as a tensor of the codes of their JSON, (characters,), in float32.

    Raises:
        TypeError: An option is no plain value.
    """
    return torch.tensor(list(json.dumps(options, separators=(",", ":")).encode("ascii")), dtype=torch.float32)


def options_of_record(record: Any) -> dict[str, Any]:
    """Return the options of a tensor that `to_record` made, perhaps in another precision by now.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(record, Tensor) or record.ndim != 1 or record.is_complex() or record.numel() > LONGEST:
        raise ValueError("no row of characters")
    codes = record.double()
    if not bool(((codes >= 0) & (codes < 128)).all()):  # nor NaN
        raise ValueError("no characters")
    try:
        options = json.loads(bytes(codes.round().to(torch.uint8).tolist()))
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    except ValueError as error:
        raise ValueError("no JSON, or cut off") from error
    if not isinstance(options, dict) or not isinstance(options.get("type"), str):
        raise ValueError("no options of a network")
    return options


def split_record(state: Mapping[str, Value]) -> tuple[dict[str, Value], Value | None]:
    """Return weights without the record, and the record; None where there is none.

    Weights of a module that wraps the network have it under the wrapper's name.
    """
    records = [value for name, value in state.items() if _is_record(name)]
    weights = {name: value for name, value in state.items() if not _is_record(name)}
    return weights, records[0] if records else None


def _is_record(name: str) -> bool:
    return name == RECORD or name.endswith(f".{RECORD}")
