"""Features of a trained network on a photograph, of any width and in windows of any shape.

For kernels at the sizes of networks that are not trained yet; `attention_inputs` has those of one that is, as they are.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from semanir_plugin.blocks import KeySemanticStage
from semanir_plugin.evaluation.profiling.attention_inputs import WEIGHTS, read_photo
from semanir_plugin.inference.loading import load

__all__ = ["stage_inputs"]


def stage_inputs(windows: int, shape: tuple[int, int], channels: int, *, stage: int = 1) -> Tensor:
    """Return windows of the input of a stage of the shipped semanir-mini-x4, on a photograph of scikit-image's.

    Args:
        windows: Their number, B.
        shape: Height and width of each in tokens, N = height * width.
        channels: C, at least the network's 48: the features are turned into that many by a rotation, which keeps all
            similarities.
        stage: 0 or 1.

    Returns:
        (B, N, C) fp32 on the CPU, the same for the same arguments.

    Raises:
        UserError: The photograph has not so many tokens.
    """
    height, width = shape
    across = min(windows, max(1, round((windows * height / width) ** 0.5)))
    down = -(-windows // across)
    x = _features(down * height, across * width, stage)
    x = x.unflatten(1, (across, width)).unflatten(0, (down, height)).transpose(1, 2)  # (down, across, h, w, C)
    x = x.flatten(2, 3).flatten(0, 1)[:windows]  # (B, N, C)
    out: Tensor = x @ _rotation(x.shape[-1], channels)
    return out


@cache
def _features(height: int, width: int, stage: int) -> Tensor:
    """Return (height, width, C) for the middle of the photograph."""
    network = load(WEIGHTS, device="cpu").module
    stages = [module for module in network.modules() if isinstance(module, KeySemanticStage)]
    kept: list[Tensor] = []
    hook = stages[stage].register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with hook, torch.no_grad():
        network(read_photo(height, width))
    return kept[0][0, :height, :width]  # without what pads it to whole windows


def _rotation(width: int, channels: int) -> Tensor:
    """Return (width, channels) with orthonormal rows, the same every time."""
    return nn.init.orthogonal_(torch.empty(channels, width), generator=torch.Generator().manual_seed(0)).T
