"""What a repair is, and where functions have to be replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["Repair", "modules_with"]

Repair = tuple[type | ModuleType, str, Callable[..., Any]]
"""A class or module of BasicSR's, the name of one of its functions, and what takes its place."""


def modules_with(name: str) -> list[ModuleType]:
    """Return BasicSR's modules that define a function of that name or have imported it by name."""
    modules = [module for key, module in list(sys.modules.items()) if key.partition(".")[0] == "basicsr"]
    return [module for module in modules if callable(vars(module).get(name))]
