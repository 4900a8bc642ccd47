"""Features of a trained network on a photograph: what its dictionaries are made of, for timings.

How many keys neighbouring queries share decides the speed of kernels that skip what nobody chose. Random features share
next to none; those of a network that has seen nothing but noise share others than those of a photograph.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from semanir_plugin.blocks import KeySemanticStage
from semanir_plugin.errors import UserError
from semanir_plugin.models.checkpoints import build_from_checkpoint, find_weights

__all__ = ["stage_inputs"]

WEIGHTS = "semanir-mini-x4"
PHOTO = "astronaut.png"


def stage_inputs(windows: int, shape: tuple[int, int], channels: int, *, stage: int = 1) -> Tensor:
    """Return windows of what enters a stage of the shipped semanir-mini-x4 for a photograph of scikit-image's.

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
    return x @ _rotation(x.shape[-1], channels)


@cache
def _features(height: int, width: int, stage: int) -> Tensor:
    """Return (height, width, C) for the middle of the photograph."""
    network = build_from_checkpoint(find_weights(WEIGHTS))
    stages = [module for module in network.modules() if isinstance(module, KeySemanticStage)]
    kept: list[Tensor] = []
    hook = stages[stage].register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with hook, torch.no_grad():
        network(_photo(height, width))
    return kept[0][0, :height, :width]  # without what pads it to whole windows


def _photo(height: int, width: int) -> Tensor:
    """Return the middle of the photograph, (1, 3, height, width) in [0, 1]."""
    import skimage
    from skimage.io import imread

    pixels = imread(Path(skimage.__file__).parent / "data" / PHOTO)[..., :3]
    if height > pixels.shape[0] or width > pixels.shape[1]:
        raise UserError(f"{PHOTO} has no {height} x {width} pixels; ask for fewer or smaller windows")
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return torch.from_numpy(pixels[top : top + height, left : left + width]).permute(2, 0, 1)[None] / 255


def _rotation(width: int, channels: int) -> Tensor:
    """Return (width, channels) with orthonormal rows, the same every time."""
    return nn.init.orthogonal_(torch.empty(channels, width), generator=torch.Generator().manual_seed(0)).T
