"""A trained network that restores images of any kind and size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from semanir_plugin.archs.descriptor import NetworkDescriptor, describe

__all__ = ["Restorer"]


class Restorer:
    """A network with its weights."""

    def __init__(self, module: nn.Module, options: Mapping[str, Any]) -> None:
        self.module, self.options = module, dict(options)
        self.descriptor: NetworkDescriptor = describe(module, options)
