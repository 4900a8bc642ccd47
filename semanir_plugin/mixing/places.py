"""Find the places for blocks in a network, by running it once and recording the shapes at its modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from semanir_plugin.errors import one_line

__all__ = ["Form", "Place", "find_places", "image_size"]

# Heights and widths of the trial image: small, of two lengths that tell rows from columns, and multiples of what
# windows and levels of a U need. Larger ones in case the network asks for more.
TRIAL_SIZES = ((32, 48), (64, 96), (128, 192))


class Form(Enum):
    """Layout of a module's features."""

    MAP = "map"  # (B, C, H, W)
    MAP_LAST = "map, channels last"  # (B, H, W, C)
    SEQUENCE = "sequence"  # (B, H * W, C)
    WINDOWS = "windows"  # (B * windows, N, C), N a square
    NONE = "none"  # what goes in and what comes out differ in shape, or are no features


@dataclass(frozen=True)
class Place:
    """A module of a network, and the features at it.

    Attributes:
        name: As in `named_modules`.
        module: The module.
        form: How it has its features.
        dim: Their channels.
        tokens: Of windows and sequences, the tokens of one.
        told_by: Of sequences, the name of the module, itself or the nearest around, that is given height and width.
        shapes: What went in first, and what came out.
    """

    name: str
    module: nn.Module
    form: Form
    dim: int = 0
    tokens: int = 0
    told_by: str | None = None
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def kind(self) -> str:
        """The name of the module's class."""
        return type(self.module).__name__


@dataclass(frozen=True)
class _Call:
    given: tuple[int, ...] | None
    returned: tuple[int, ...] | None
    sizes: tuple[tuple[int, int], ...]


def find_places(network: nn.Module, example: Sequence[int] | None = None) -> dict[str, Place]:
    """Run a network on a trial image, and return its modules that ran, by name.

    Args:
        network: Any network that takes a batch of images alone; it is left as it was.
        example: (C, H, W) of an image that it takes, H and W different; by default tried out.

    Raises:
        ValueError: It does not run on such an image.
    """
    tried = [tuple(example)] if example is not None else list(_trial_shapes(network))
    failures: list[str] = []
    for shape in tried:
        if len(shape) != 3 or shape[1] == shape[2]:
            raise ValueError(f"example must be channels, height and another width, got {list(shape)}")
        try:
            calls = _run(network, shape)
        except Exception as error:  # whatever the host thinks of that size
            failures.append(f"{' x '.join(map(str, shape))}: {one_line(error)}")
            continue
        return {place.name: place for place in _places(network, calls, shape[1:])}
    raise ValueError(
        f"{type(network).__name__} did not run on a trial image, so its features are not known: give example: "
        f"[channels, height, width] ({failures[0]})"
    )


def image_size(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield each candidate for height and width among the arguments of a call."""
    for value in (*arguments, *keywords.values()):
        if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(side, int) for side in value):
            yield int(value[0]), int(value[1])


def _trial_shapes(network: nn.Module) -> Iterator[tuple[int, int, int]]:
    # What the first convolution takes, unless the image is rearranged before it.
    first = next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)
    for height, width in TRIAL_SIZES:
        for channels in dict.fromkeys((first, 3, 1)):
            yield channels, height, width


def _run(network: nn.Module, shape: tuple[int, ...]) -> dict[str, _Call]:
    """Return the first call of every module."""
    calls: dict[str, _Call] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            given = next((value for value in (*arguments, *keywords.values()) if isinstance(value, Tensor)), None)
            sizes = tuple(image_size(arguments, keywords))
            calls.setdefault(name, _Call(_shape(given), _shape(output), sizes))

        return hook

    handles = [
        module.register_forward_hook(note(name), with_kwargs=True) for name, module in network.named_modules() if name
    ]
    modes = {module: module.training for module in network.modules()}
    parameter = next(network.parameters(), torch.empty(0))
    try:
        with torch.random.fork_rng([parameter.device] if parameter.is_cuda else []), torch.no_grad():
            network.eval()
            network(torch.rand(1, *shape).to(parameter))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return calls


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _places(network: nn.Module, calls: Mapping[str, _Call], size: tuple[int, ...]) -> Iterator[Place]:
    for name, module in network.named_modules():
        if name in calls:
            yield _place(name, module, calls, size)


def _place(name: str, module: nn.Module, calls: Mapping[str, _Call], size: tuple[int, ...]) -> Place:
    call = calls[name]
    shapes = tuple(shape for shape in (call.given, call.returned) if shape is not None)
    form = _form(call, size)
    if form is Form.NONE or call.given is None:
        return Place(name, module, Form.NONE, shapes=shapes)
    dim = call.given[1 if form is Form.MAP else -1]
    if form in (Form.MAP, Form.MAP_LAST):
        return Place(name, module, form, dim, shapes=shapes)
    tokens = call.given[1]
    told_by = _who_is_told(name, calls, tokens) if form is Form.SEQUENCE else None
    return Place(name, module, form, dim, tokens, told_by, shapes)


def _form(call: _Call, size: tuple[int, ...]) -> Form:
    shape = call.given
    if shape is None or shape != call.returned:
        return Form.NONE
    height, width = size
    if len(shape) == 4 and shape[2] * width == shape[3] * height:
        return Form.MAP
    if len(shape) == 4 and shape[1] * width == shape[2] * height:
        return Form.MAP_LAST
    if len(shape) == 3 and shape[0] > 1 and isqrt(shape[1]) ** 2 == shape[1]:  # the batch is one image
        return Form.WINDOWS
    return Form.SEQUENCE if len(shape) == 3 and shape[0] == 1 else Form.NONE


def _who_is_told(name: str, calls: Mapping[str, _Call], tokens: int) -> str | None:
    """Return the module itself or the nearest around that is given the height and width of so many tokens."""
    while name:
        if name in calls and any(height * width == tokens for height, width in calls[name].sizes):
            return name
        name = name.rpartition(".")[0]
    return None
