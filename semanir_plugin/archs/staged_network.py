"""Base of the architectures: top-k strategies, shifts of windows, initialisation, compilation."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import FunctionType, MethodType
from typing import Annotated, Any, Literal

import torch
from torch import nn

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.archs.pretrained_network import PretrainedNetwork
from semanir_plugin.blocks.attention import get_attention
from semanir_plugin.blocks.feed_forward import init_linear
from semanir_plugin.schema.values import Count, Range, describe_hint, in_range, parameter_hints

__all__ = ["MOST_LAYERS", "Depth", "Shift", "StagedNetwork", "Topk", "check_arguments", "shift_pattern"]

Shift = Literal["stage", "layer", "none"]
MOST_LAYERS = 1_000
"""Of a stage."""

Depth = Annotated[int, Range(least=1, most=MOST_LAYERS)]
Topk = Count | Sequence[Count]


class StagedNetwork(PretrainedNetwork):
    """A network of stages, whose layers attend to key-semantic dictionaries or otherwise.

    Args:
        attn: Kind of attention.
        topk: Keys per query; or several: training samples one per forward pass, evaluation takes the largest.

    Raises:
        ValueError: There is no such kind, or `topk` is not a positive int or a list of them.
    """

    descriptor: NetworkDescriptor

    def __init__(self, attn: str, topk: int | Sequence[int]) -> None:
        super().__init__()
        choices = tuple(topk) if isinstance(topk, Sequence) else (topk,)
        if not choices or any(not isinstance(k, int) or k < 1 for k in choices):
            raise ValueError(f"topk must be a positive int or a list of them, got {topk!r}")
        self.topk = choices if get_attention(attn).builds_dictionary else None

    def sample_topk(self, topk: int | None) -> int:
        """Return the keys per query of one pass: `topk`, else in training one of the choices, else the largest."""
        if topk is not None:
            return topk
        choices = self.topk or (1,)
        return random.choice(choices) if self.training else max(choices)

    def finish(self, stage: type[nn.Module], compile_backend: str | None) -> None:
        """Initialise the linear layers, and compile every `stage` where a backend is given."""
        init_linear(self)
        for index, module in enumerate(self.modules()):
            if isinstance(module, stage) and compile_backend is not None:
                _compile(module, index, compile_backend)


def _compile(stage: nn.Module, index: int, backend: str) -> None:
    """Compile the forward pass of one stage, in place, so that parameters keep their names.

    Of a function that all stages share, torch would count their sizes and compilations as one's: from the second stage
    on it would compile for any size, which takes minutes, and after the eighth refuse.
    """
    forward = type(stage).forward
    code = forward.__code__.replace(co_name=f"forward_{index}")
    own = FunctionType(code, forward.__globals__, argdefs=forward.__defaults__, closure=forward.__closure__)
    stage.forward = MethodType(torch.compile(own, fullgraph=True, backend=backend), stage)


def shift_pattern(shift: Shift, depths: Sequence[int]) -> list[list[bool]]:
    """Return for each layer of each stage whether its windows are shifted.

    Raises:
        ValueError: `shift` is not "stage", "layer" or "none".
    """
    if shift == "stage":
        return [[index % 2 == 1] * depth for index, depth in enumerate(depths)]
    if shift == "layer":
        return [[layer % 2 == 1 for layer in range(depth)] for depth in depths]
    if shift == "none":
        return [[False] * depth for depth in depths]
    raise ValueError(f"shift must be 'stage', 'layer' or 'none', got {shift!r}")


def check_arguments(network: type, given: Mapping[str, Any]) -> None:
    """Check numbers against the ranges in a constructor's annotations, by which option files are checked too.

    Args:
        network: The class with the constructor.
        given: Its arguments by name; others are passed over.

    Raises:
        ValueError: One is out of its range; it is named.
    """
    for name, hint in parameter_hints(network).items():
        if name in given and not in_range(given[name], hint):
            raise ValueError(f"{name} must be {describe_hint(hint)}, got {given[name]!r}")
