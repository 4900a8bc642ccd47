"""Names of weights in the checkpoints of other training codes, which wrap the network that they train."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch

from semanir_plugin.errors import UserError, first_names

__all__ = ["take_network", "unwrap_names", "wrapped_networks"]

_PARALLEL = "module."  # of DataParallel, DistributedDataParallel and AveragedModel, perhaps one around the other
_COMPILED = "_orig_mod."  # of torch.compile, of the whole or of a part
_AVERAGES = "n_averaged"  # of AveragedModel: how many
# What LightningModules and other wrappers call the network; what is averaged comes last, as it may be no whole one.
_GENERATORS = ("net_g", "netG", "generator", "network", "net", "model", "ema_model", "generator_ema", "ema")

_logger = logging.getLogger(__name__)


def _tell_where(state: Mapping[Any, Any]) -> str:
    """Return what mends a checkpoint that is no mapping of weights: they may be one level below."""
    groups = [
        name
        for name, value in state.items()
        if isinstance(value, Mapping) and any(isinstance(each, torch.Tensor) for each in value.values())
    ]
    return f"its weights have the key {' or '.join(map(str, groups))}" if groups else "save a state_dict"


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
            raise UserError(f"{path}: its '{name}' is a {type(value).__name__}, no tensor; {_tell_where(state)}")
        if kind := _strange_kind(value):
            raise UserError(f"{path}: its '{name}' is {kind}; save plain weights")
    unwrapped = _unwrap_all(state, path)
    if lightning or any(name.startswith("net_g.") for name in unwrapped):
        unwrapped = _unwrap_all(_of_generator(unwrapped, path), path)
    if any(_COMPILED in name for name in state):
        _logger.info(f"{path} is of a network compiled by torch.compile; its names are taken without '{_COMPILED}'.")
    return unwrapped


def wrapped_networks(state: Mapping[str, Any], path: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what could be the network within a wrapper: its attribute there, and its weights under their own names."""
    for attribute in _GENERATORS:
        if inner := _part(state, f"{attribute}."):
            yield attribute, _unwrap_all(inner, path)


def take_network(state: Mapping[str, Any], names: Set[str], path: object) -> Mapping[str, Any]:
    """Return weights under a network's own names; where none of them has one, those that a wrapper has under them."""
    if names & state.keys():
        return state
    for attribute, inner in wrapped_networks(state, path):
        if names & inner.keys():
            _logger.info(f"{path} is of a module that wraps the network; its '{attribute}' is taken.")
            return inner
    return state


def _unwrap_all(state: Mapping[str, Any], path: object) -> dict[str, Any]:
    unwrapped: dict[str, Any] = {}
    for name, value in state.items():
        bare = _unwrap(name)
        if bare in unwrapped:
            raise UserError(f"{path}: '{name}' and another weight are both '{bare}'; save the network alone")
        unwrapped[bare] = value
    if _AVERAGES in state and any(name.startswith(_PARALLEL) for name in state):
        del unwrapped[_AVERAGES]
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
    return _part(state, prefix)


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _unwrap(name: str) -> str:
    name = name.replace(_COMPILED, "")
    while name.startswith(_PARALLEL):
        name = name.removeprefix(_PARALLEL)
    return name
