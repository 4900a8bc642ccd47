"""What a network takes, as itself or its options tell: channels, and multiples of pixels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["input_channels", "size_multiple"]

# What architectures call the channels of their input; the first that has a value counts.
CHANNELS = ("dd_in", "in_chans", "num_in_ch", "in_channels", "in_nc", "inp_channels", "in_ch")


def input_channels(net: nn.Module, options: Mapping[str, Any] | None = None) -> int:
    """Return how many channels the images have that a network takes.

    By its options, by the defaults of its constructor, or else as many as its first convolution takes; 3 where it has
    none.
    """
    if options is not None and isinstance(options.get("base"), Mapping):  # a MixedArch is its network, changed
        net, options = getattr(net, "network", net), options["base"]
    told: dict[str, Any] = {}
    if options is not None:  # then what they leave out is at its default
        told = {name: each.default for name, each in inspect.signature(type(net)).parameters.items()} | dict(options)
    named = (told.get(name) for name in CHANNELS)
    first = (module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d))
    return next((each for each in [*named, *first] if isinstance(each, int)), 3)


def size_multiple(net: nn.Module, options: Mapping[str, Any]) -> int:
    """Return what height and width of the images that a network is given should be multiples of."""
    sizes = getattr(net, "size_requirements", None)
    if sizes is None:  # BasicSR's own window architectures tell it through their options alone
        return int(options.get("window_size", 1))
    return int(sizes.multiple_of)
