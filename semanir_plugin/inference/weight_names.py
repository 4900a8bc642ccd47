"""Names of weights in the checkpoints of other training codes, which wrap the network that they train."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from semanir_plugin.errors import UserError, first_names

__all__ = ["unwrap_names"]

_PARALLEL = "module."  # of DataParallel, DistributedDataParallel and AveragedModel, perhaps one around the other
_COMPILED = "_orig_mod."  # of torch.compile, of the whole or of a part
_AVERAGES = "n_averaged"  # of AveragedModel: how many
_GENERATORS = ("net_g", "netG", "generator", "network", "net", "model")  # attributes of LightningModules

_logger = logging.getLogger(__name__)


def unwrap_names(state: Mapping[Any, Any], path: object, *, lightning: bool = False) -> dict[str, Any]:
    """Return weights under the names that the network itself gives them.

    Args:
        state: Weights by name.
        path: The file, for messages.
        lightning: Whether a LightningModule has the network as one of its attributes.

    Raises:
        UserError: A name is no text, an entry no plain tensor, or two weights would have one name.
    """
    for name, value in state.items():
        if not isinstance(name, str):
            raise UserError(f"{path}: {name!r} is no name of a weight; save a state_dict")
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{path}: its '{name}' is a {type(value).__name__}, no tensor; save a state_dict")
        if kind := _strange_kind(value):
            raise UserError(f"{path}: its '{name}' is {kind}; save plain weights")
    chosen = _of_generator(state, path) if lightning or any(name.startswith("net_g.") for name in state) else state
    unwrapped: dict[str, Any] = {}
    for name, value in chosen.items():
        bare = _unwrap(name)
        if bare in unwrapped:
            raise UserError(f"{path}: '{name}' and another weight are both '{bare}'; save the network alone")
        unwrapped[bare] = value
    if _AVERAGES in chosen and any(name.startswith(_PARALLEL) for name in chosen):
        del unwrapped[_AVERAGES]
    if any(_COMPILED in name for name in chosen):
        _logger.info(f"{path} is of a network compiled by torch.compile; its names are taken without '{_COMPILED}'.")
    return unwrapped


def _strange_kind(value: torch.Tensor) -> str | None:
    """Return what a tensor is that cannot be a weight; None if it can."""
    if value.is_meta:
        return "without values (on the device 'meta')"
    if value.is_nested:
        return "nested"
    if value.is_quantized:
        return "quantised"
    return None if value.layout == torch.strided else "sparse"


def _of_generator(state: Mapping[str, Any], path: object) -> dict[str, Any]:
    """Return the weights of the attribute that is the network, under its own names."""
    attributes = {name.partition(".")[0] for name in state}
    prefix = next((f"{each}." for each in _GENERATORS if each in attributes), None)
    if prefix is None:
        found = first_names(sorted(attributes))
        raise UserError(
            f"{path}: of a LightningModule, none of whose parts ({found}) is called {', '.join(_GENERATORS)}"
        )
    _logger.info(f"{path} is of a LightningModule; its '{prefix[:-1]}' is taken.")
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _unwrap(name: str) -> str:
    name = name.replace(_COMPILED, "")
    while name.startswith(_PARALLEL):
        name = name.removeprefix(_PARALLEL)
    return name
