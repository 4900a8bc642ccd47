"""Registries of the classes and functions that an option file or a checkpoint can name.

A class enters where it is defined, by a decorator:

    @ARCHS.register
    class MyNetwork(nn.Module): ...

None of this needs BasicSR or OpenMMLab. Where they are imported, `semanir_plugin.import_hooks` enters what stands here
in their registries too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

from semanir_plugin.errors import near_match
from semanir_plugin.extensions import import_installed

__all__ = ["ARCHS", "DATASETS", "LOSSES", "METRICS", "MODELS", "REGISTRIES", "Registry"]

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Mapping[str, Any]):
    """The entries of this package of one kind, by name, and the way to those of BasicSR.

    Args:
        kind: Kind of the entries, for messages.
        host_name: The name of BasicSR's registry of the same kind in `basicsr.utils.registry`.
    """

    def __init__(self, kind: str, host_name: str) -> None:
        self.kind, self.host_name = kind, host_name
        self._entries: dict[str, Any] = {}
        self._mirrors: list[MutableMapping[str, Any]] = []

    def register(self, entry: T) -> T:
        """Add a class or function under its name; use it as a decorator.

        Defining the same entry again, as a reload of its module does, replaces it.

        Raises:
            KeyError: Another module owns the name.
        """
        for entries in (self._entries, *self._mirrors):
            _enter(entries, entry)
        return entry

    def mirror_in(self, entries: MutableMapping[str, Any]) -> None:
        """Enter all that is registered, now and later, in the entries of another registry as well.

        Raises:
            KeyError: Another module owns a name there.
        """
        if not any(entries is mirror for mirror in self._mirrors):
            self._mirrors.append(entries)
        for entry in self._entries.values():
            _enter(entries, entry)

    def find(self, name: str) -> Any:
        """Return the entry of that name: this package's, else BasicSR's, else that of an installed extension.

        Raises:
            KeyError: There is none; the message has the nearest name.
        """
        if self._look_up(name) is None:
            import_installed()
        found = self._look_up(name)
        if found is not None:
            return found
        host = self._host_entries()
        near = near_match(name, {key.removesuffix("_basicsr") for key in (*self, *host)})
        hint = f"; did you mean '{near}'?" if near else ""
        without = "" if host else "; BasicSR, which has more, is not installed"
        raise KeyError(f"unknown {self.kind} '{name}'{hint}{without}")

    def _look_up(self, name: str) -> Any:
        host = {} if name in self._entries else self._host_entries()
        # NAME_basicsr is what BasicSR calls its own where a name is taken.
        return self._entries.get(name) or host.get(name) or host.get(f"{name}_basicsr")

    def _host_entries(self) -> Mapping[str, Any]:
        try:
            module = importlib.import_module("basicsr.utils.registry")
        except ImportError:
            return {}
        return dict(iter(getattr(module, self.host_name)))

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _enter(entries: MutableMapping[str, Any], entry: Any) -> None:
    name = entry.__name__
    known = entries.get(name)
    if known is not None and known.__module__ != entry.__module__:
        raise KeyError(f"'{name}' is already registered by {known.__module__}; rename {entry.__module__}'s")
    entries[name] = entry


ARCHS = Registry("architecture", "ARCH_REGISTRY")
MODELS = Registry("model", "MODEL_REGISTRY")
DATASETS = Registry("dataset", "DATASET_REGISTRY")
LOSSES = Registry("loss", "LOSS_REGISTRY")
METRICS = Registry("metric", "METRIC_REGISTRY")
REGISTRIES = (ARCHS, MODELS, DATASETS, LOSSES, METRICS)
