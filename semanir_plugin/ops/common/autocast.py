"""Ask for autocast and leave it, on every device, and while a network is exported."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from semanir_plugin.ops.common.portable import only_standard_operators

__all__ = ["is_autocast", "without_autocast"]

_SHAPES = "meta"
"""The device whose tensors are shapes alone: PyTorch knows no autocast of it."""


def is_autocast(device: str) -> bool:
    """Tell whether autocast is on for a type of device."""
    return device != _SHAPES and torch.is_autocast_enabled(device)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Return a context in which nothing is cast; none while a network is exported, for graphs know no contexts."""
    plain = device == _SHAPES or only_standard_operators()
    return nullcontext() if plain else torch.autocast(device, enabled=False)
