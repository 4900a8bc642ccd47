"""Registering in BasicSR's own registries, in a way that survives a reload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["register"]

T = TypeVar("T", bound=Callable[..., Any])


def register(registry: Any) -> Callable[[T], T]:
    """Return a decorator that adds a class or function to a BasicSR registry under its name.

    Unlike `Registry.register`, defining the same object again (module reload) replaces the entry.

    Args:
        registry: One of `basicsr.utils.registry.*_REGISTRY`.

    Raises:
        KeyError: Another module already owns the name.
    """

    def decorate(obj: T) -> T:
        known = registry._obj_map.get(obj.__name__)
        if known is not None and known.__module__ != obj.__module__:
            raise KeyError(f"'{obj.__name__}' is already registered by {known.__module__}; rename {obj.__module__}'s")
        registry._obj_map[obj.__name__] = obj
        return obj

    return decorate
