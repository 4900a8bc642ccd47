"""What a repair is."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["Repair"]

Repair = tuple[type | ModuleType, str, Callable[..., Any]]
"""A class or module of BasicSR's, the name of one of its functions, and what takes its place."""
