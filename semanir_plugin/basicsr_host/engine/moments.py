"""What a training state gave to optimisers and schedulers, compared with what they need to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from semanir_plugin.basicsr_host.optimization import known_optimizers
from semanir_plugin.errors import UserError
from semanir_plugin.schema.values import describe_hint

__all__ = ["check_moments", "kind_problems"]

# What may stand for an option that is not set: `foreach` of optimisers, say, is None, True or False.
NOT_SET = (NoneType, bool, int, float, str)


def kind_problems(fresh: Any, given: Any, name: str) -> Iterator[str]:
    """Yield, by their keys, the values that are of another kind than there were, or lack parts of theirs."""
    if isinstance(fresh, Mapping) and isinstance(given, Mapping):
        for key, value in fresh.items():
            yield from kind_problems(value, given[key], f"{name}:{key}") if key in given else [f"{name} has no '{key}'"]
    elif isinstance(fresh, list | tuple) and isinstance(given, list | tuple):
        if len(fresh) != len(given):
            yield f"{name} must have {len(fresh)} elements, not {len(given)}"
        for index, (value, another) in enumerate(zip(fresh, given, strict=False)):
            yield from kind_problems(value, another, f"{name}:{index}")
    elif fresh is None and not isinstance(given, NOT_SET):
        yield f"{name} must be null or a single value, not a {type(given).__name__}"
    elif fresh is not None and given is not None and _kind(fresh) is not _kind(given):
        yield f"{name} must be {describe_hint(_kind(fresh))}, not a {type(given).__name__}"


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def check_moments(optimizer: Optimizer, path: Path) -> None:
    """Refuse a state of weights that is not what the optimiser needs: it looks for that, and does not begin it.

    Raises:
        UserError: Something is missing, as for RMSprop with a momentum where it had none, or of another shape.
    """
    if type(optimizer) not in known_optimizers().values():
        return
    for group in optimizer.param_groups:
        needed: dict[torch.Size, dict[str, Any]] = {}
        for weight in group["params"]:
            if kept := optimizer.state.get(weight):
                if weight.shape not in needed:
                    needed[weight.shape] = _moments_like(optimizer, group, weight)
                _compare(needed[weight.shape], kept, weight, f"{path}: the training state", type(optimizer).__name__)


def _moments_like(optimizer: Optimizer, group: Mapping[str, Any], weight: Tensor) -> dict[str, Any]:
    """Return the state that another weight of this shape has after a step."""
    another = torch.nn.Parameter(torch.zeros_like(weight))
    another.grad = torch.zeros_like(another)
    kind: Any = type(optimizer)
    fresh = kind([another])
    fresh.param_groups[0].update({key: each for key, each in group.items() if key != "params"})
    fresh.step()
    return {**fresh.state[another]}


def _compare(needed: dict[str, Any], kept: Mapping[str, Any], weight: Tensor, place: str, optimizer: str) -> None:
    if missing := needed.keys() - kept.keys():
        raise UserError(
            f"{place} has no {', '.join(sorted(missing))}, which {optimizer} needs with its new options: take them "
            "back, or train from the weights alone, by path.pretrain_network_g"
        )
    for key, value in needed.items():
        if not _fits(value, kept[key]):
            raise UserError(
                f"{place} has for a weight of shape {tuple(weight.shape)} another {key} than {optimizer} needs; name "
                "another one, or train from the weights alone, by path.pretrain_network_g"
            )


def _fits(needed: Any, kept: Any) -> bool:
    """Return whether a part of a weight's state is of the shape that is needed, or else one number."""
    if not isinstance(needed, Tensor | float | int):
        return True
    if isinstance(kept, Tensor) and not _is_real(kept):
        return False
    if isinstance(needed, Tensor) and needed.ndim > 0:
        return isinstance(kept, Tensor) and kept.shape == needed.shape
    return kept.numel() == 1 if isinstance(kept, Tensor) else isinstance(kept, float | int)


def _is_real(tensor: Tensor) -> bool:
    """Return whether a tensor holds numbers that weights can be computed with."""
    usual = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
    return usual and not tensor.is_complex() and tensor.dtype != torch.bool
