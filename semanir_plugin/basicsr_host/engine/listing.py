"""Listing of the names that option files can use, from architectures to metrics, with their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from torch import nn

from semanir_plugin.archs.mixed_arch import build_host
from semanir_plugin.basicsr_host.engine.declared import ModelKeys, known_keys
from semanir_plugin.basicsr_host.engine.sections import OF_ANY_MODEL, RunOptions
from semanir_plugin.basicsr_host.optimization import known_optimizers, known_schedulers
from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.blocks import BLOCKS
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.extensions import import_for
from semanir_plugin.inference.purposes import PURPOSES
from semanir_plugin.inference.shipped_weights import shipped_weights
from semanir_plugin.mixing import Form, Place, find_places
from semanir_plugin.option_files import apply_overrides, load_options
from semanir_plugin.schema.declarations import about
from semanir_plugin.schema.sources import option_lookups

__all__ = ["KINDS", "Entry", "describe_features", "list_entries", "list_modules"]

# Filled in by whoever calls it, not by an option file.
FILLED = {"self", "img", "img2", "dim", "shared", "kwargs", "opt", "params", "optimizer", "last_epoch"}
OF_NETWORKS = ("network_", "pretrain_network_", "param_key_", "strict_load_")


@dataclass(frozen=True)
class Entry:
    """Something that an option file can name.

    Attributes:
        name: Its `type`.
        about: Description in a line; empty where there is none.
        arguments: Its arguments with their defaults; without, if they are required.
    """

    name: str
    about: str
    arguments: tuple[str, ...]


def list_entries(kind: str) -> list[Entry]:
    """Return the entries of a kind, one of `KINDS`, sorted by name."""
    return sorted(KINDS[kind](), key=lambda entry: entry.name.lower())


def list_modules(opt: str, force_yml: list[str]) -> list[Place]:
    """Return the modules of an option file's network, or of the one that blocks are mixed into.

    Args:
        opt: Path of the option file, of which only `network_g` is read.
        force_yml: Overrides of the form `section:key=value`.

    Raises:
        UserError: The file is wrong, or its network cannot be built and tried.
    """
    file = apply_overrides(load_options(opt), force_yml)
    for warning in import_for(file):
        get_root_logger().warning(warning)
    options = file.data.get("network_g")
    if not isinstance(options, Mapping):
        raise UserError(f"{opt}: missing 'network_g': add it")
    if options.get("type") == "MixedArch":
        options = options.get("base", {})
    try:
        with torch.random.fork_rng([]):
            network: nn.Module = build_host(options)
        return list(find_places(network).values())
    except (TypeError, ValueError) as error:
        raise UserError(f"{file.where(('network_g',))}: network_g: {one_line(error)}") from error


def _entries(
    named: Iterable[tuple[str, Any]], options: Callable[[Any], Iterable[str]] | None = None
) -> Iterator[Entry]:
    for name, target in named:
        yield Entry(name.removesuffix("_basicsr"), about(target), tuple((options or _arguments)(target)))


def _arguments(target: Any) -> Iterator[str]:
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name not in FILLED and parameter.kind is not parameter.VAR_POSITIONAL:
            yield _describe(parameter)


def _options_of_dataset(dataset: type) -> Iterator[str]:
    """Yield what a dataset declares, and what else it is seen to read."""
    declared = getattr(dataset, "OPTIONS", None)
    yield from _arguments(declared) if declared else ()
    yield from sorted({path[0] for path in option_lookups(dataset)} - (known_keys(declared) if declared else set()))


def _options_of_model(model: type) -> Iterator[str]:
    """Yield what a model reads besides what any model can have."""
    keys = ModelKeys(model)
    for section, engine in {"": RunOptions, **OF_ANY_MODEL}.items():
        own = keys.of(section) - known_keys(engine)
        yield from (f"{section}:{key}" if section else key for key in sorted(own) if not key.startswith(OF_NETWORKS))


def _describe(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={default.__name__ if isinstance(default, type) else repr(default)}"


KINDS: dict[str, Callable[[], Iterator[Entry]]] = {
    "archs": lambda: _entries(ARCH_REGISTRY),
    "blocks": lambda: _entries(BLOCKS.items()),
    "models": lambda: _entries(MODEL_REGISTRY, _options_of_model),
    "datasets": lambda: _entries(DATASET_REGISTRY, _options_of_dataset),
    "losses": lambda: _entries(LOSS_REGISTRY),
    "metrics": lambda: _entries(METRIC_REGISTRY),
    "protocols": lambda: (Entry(name, each.description.rstrip("."), ()) for name, each in PROTOCOLS.items()),
    "optimizers": lambda: _entries(known_optimizers().items()),
    "schedulers": lambda: _entries(known_schedulers().items()),
    "weights": lambda: (Entry(name, PURPOSES[name].about, ()) for name in shipped_weights()),
}


def describe_features(place: Place) -> str:
    """Describe a module's features in a few words, or how it changes them."""
    if place.form is Form.NONE:
        return " to ".join(" x ".join(map(str, shape)) for shape in place.shapes) or "no features"
    of = f" of {place.tokens} tokens" if place.form is Form.WINDOWS else ""
    return f"{place.form.value}{of}, {place.dim} channels"
