"""Descriptor of a network, declared by itself or observed: scale, channels, sizes, top-k."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from semanir_plugin.blocks.padding import SizeRequirements
from semanir_plugin.errors import one_line

__all__ = ["NetworkDescriptor", "describe", "input_channels", "topk_choices"]


@dataclass(frozen=True, kw_only=True)
class NetworkDescriptor:
    """The contract between a network that restores images and whoever feeds it.

    Attributes:
        scale: How many times as high and wide the result is.
        in_channels: Channels of the images that it takes.
        out_channels: Channels of the results.
        size: Which heights and widths it takes.
        value_range: Least and largest value of the images, of black and white.
        half_precision: Whether it may run in bf16 or fp16 under autocast.
        topk: The numbers of keys per query that it was built for, where it has a choice of keys: its `forward` takes
            `topk`, in training one is drawn for each pass, in evaluation the largest counts. None: it has none.
        task: What it is for, in the words of the field; None: it is not told.
    """

    scale: int = 1
    in_channels: int = 3
    out_channels: int = 3
    size: SizeRequirements = field(default_factory=SizeRequirements)
    value_range: tuple[float, float] = (0.0, 1.0)
    half_precision: bool = True
    topk: tuple[int, ...] | None = None
    task: str | None = None


def describe(net: nn.Module, options: Mapping[str, Any] | None = None) -> NetworkDescriptor:
    """Return the descriptor of a network: its attribute `descriptor`, else what its options and small images show.

    Others' networks are given images of zeros, of 17 pixels and more on a side, until one passes: what it became tells
    the scale and the channels, its sides the multiple that they must be of. Architectures that work in windows are
    taken at their word instead, for some pad too little without a complaint.

    Args:
        net: The network, where it is; its mode and its weights stay as they are.
        options: What it was built from, where that is known.

    Raises:
        ValueError: It takes none of the images.
    """
    return _told(net) or _observe(net, options or {})


def input_channels(net: nn.Module, options: Mapping[str, Any] | None = None) -> int:
    """Return the number of channels of a network's images, by its descriptor, its options or its first convolution.

    Unlike `describe`, it never runs the network.
    """
    told = _told(net)
    return told.in_channels if told else _channels(net, options or {})[0]


def topk_choices(net: nn.Module) -> tuple[int, ...] | None:
    """Return the numbers of keys per query that a network was built for; None where it does not choose keys."""
    told = _told(net)
    return told.topk if told else None


def _told(net: nn.Module) -> NetworkDescriptor | None:
    told = getattr(net, "descriptor", None)
    return told if isinstance(told, NetworkDescriptor) else None


# What architectures call the channels of their input; the first that has a value counts.
CHANNELS = ("dd_in", "in_chans", "num_in_ch", "in_channels", "in_nc", "inp_channels", "in_ch")
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
LEAST_SIDE, LARGE_SIDE = 17, 256


def _observe(net: nn.Module, options: Mapping[str, Any]) -> NetworkDescriptor:
    training, problem = net.training, ""
    net.eval()
    try:
        for channels in _channels(net, options):
            for size, sides in _trials(_window_size(net, options)):
                try:
                    scale, out_channels = _try_zeros(net, channels, sides)
                except Exception as error:  # whatever a network raises on an image that it does not take
                    problem = problem or one_line(error)
                    continue
                return NetworkDescriptor(scale=scale, in_channels=channels, out_channels=out_channels, size=size)
    finally:
        net.train(training)
    raise ValueError(f"{type(net).__name__} restores no image that was tried: {problem}")


@torch.no_grad()
def _try_zeros(net: nn.Module, channels: int, sides: tuple[int, int]) -> tuple[int, int]:
    """Return by how much a network enlarges an image, and the channels of the result."""
    device = next((each.device for each in net.parameters()), torch.device("cpu"))
    out = net(torch.zeros(1, channels, *sides, device=device)).shape
    scale = out[-2] // sides[0]
    if scale < 1 or out[-2:] != (sides[0] * scale, sides[1] * scale):
        raise ValueError(f"{sides[0]} x {sides[1]} pixels became {out[-2]} x {out[-1]}, no whole multiple")
    return scale, out[1]


def _trials(window_size: int) -> Iterator[tuple[SizeRequirements, tuple[int, int]]]:
    """Yield sizes of images that are odd multiples, the least demanding first, and those of squares after them."""
    for square in (False, True):
        for multiple in MULTIPLES:
            multiple *= window_size
            odd = max(1, -(-LEAST_SIDE // multiple) | 1)
            side = odd * multiple
            size = SizeRequirements(multiple_of=multiple, square=square)
            yield size, (side, side if square else side + 2 * multiple)
    yield SizeRequirements(minimum=LARGE_SIDE, multiple_of=LARGE_SIDE, square=True), (LARGE_SIDE, LARGE_SIDE)


def _window_size(net: nn.Module, options: Mapping[str, Any]) -> int:
    """Return the side of the windows that a network works in, as its options or its modules have it; 1: in none."""
    named = (getattr(each, "window_size", None) for each in net.modules())
    return next((each for each in (options.get("window_size"), *named) if isinstance(each, int)), 1)


def _channels(net: nn.Module, options: Mapping[str, Any]) -> list[int]:
    """Return the channels that images may have: as the options or the constructor's defaults say, else to be tried."""
    if options:
        defaults = {name: each.default for name, each in inspect.signature(type(net)).parameters.items()}
        told = [{**defaults, **options}.get(name) for name in CHANNELS]
        if named := [each for each in told if isinstance(each, int)]:
            return named[:1]
    first = next((module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)), 3)
    return list(dict.fromkeys([first, 3, 1]))
