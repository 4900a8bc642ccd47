"""Inputs of attention in a trained network on a photograph, for realistic timings.

The number of keys that neighbouring queries share decides the speed of kernels that skip unused ones. Random
projections of pixels have a few tokens that nearly all choose; behind a network's LayerNorm there are none.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from semanir_plugin.blocks import KeySemanticAttention, KeySemanticLayer, KeySemanticStage
from semanir_plugin.errors import UserError, require_package
from semanir_plugin.inference.loading import build_network, load
from semanir_plugin.inference.shipped_weights import find_weights

__all__ = ["WEIGHTS", "AttentionInputs", "attention_inputs", "read_photo"]

WEIGHTS = "semanir-mini-x4"


class AttentionInputs(NamedTuple):
    """Inputs of the attention of a stage's first layer, cut into windows of N tokens.

    Attributes:
        tokens: (B, N, C) the stage's input, of which its dictionary is made.
        regions: (R, N) where its windows are shifted, else None; see `build_key_semantics`.
        q: (B, H, N, D) queries, with the learned scales in them.
        k: (B, H, N, D) keys.
        v: (B, H, N, D) values.
        bias: (H, 2w - 1, 2w - 1) table.
    """

    tokens: Tensor
    regions: Tensor | None
    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor


@torch.no_grad()
def attention_inputs(window: int, *, stage: int = 0, size: int = 64, data: Path | None = None) -> AttentionInputs:
    """Return the inputs of attention in the shipped semanir-mini-x4; its weights work with windows of any side.

    Args:
        window: Side of the windows in tokens; the share of keys that its layers choose stays the network's.
        stage: 0, or 1, whose windows are shifted.
        size: Side of the crop of the photograph, in pixels, a multiple of `window`.
        data: A folder of images, of which the first is taken; None: a photograph of scikit-image's.

    Raises:
        UserError: The photograph is missing or smaller than the crop.
    """
    network = _rebuild(window)
    module = [each for each in network.modules() if isinstance(each, KeySemanticStage)][stage]
    kept: list[Tensor] = []
    with module.register_forward_pre_hook(lambda _, args: kept.append(args[0])):
        network(read_photo(size, size, data))
    layer = module.layers[0]
    assert isinstance(layer, KeySemanticLayer)
    assert isinstance(layer.attn, KeySemanticAttention)
    grid = module.grid(kept[0], shifted=layer.shifted)
    tokens = grid.partition(kept[0])
    q, k, v, bias = layer.attn.project(tokens)
    assert bias is not None
    return AttentionInputs(tokens, grid.regions(tokens.device), q, k, v, bias)


def _rebuild(window: int) -> nn.Module:
    path = find_weights(WEIGHTS)
    trained = load(path, device="cpu")
    options = trained.options
    topk = max(1, options["topk"] * window**2 // options["window_size"] ** 2)
    network = build_network({**options, "window_size": window, "topk": topk}, path).eval()
    network.load_state_dict(trained.module.state_dict())
    return network


def read_photo(height: int, width: int, data: Path | None = None) -> Tensor:
    """Return the middle of a photograph, (1, 3, height, width), RGB in [0, 1].

    Args:
        height: Pixels.
        width: Pixels.
        data: A folder of images, of which the first is taken; None: a photograph of scikit-image's.

    Raises:
        UserError: There is none, or it is smaller; or scikit-image, which reads it, is not installed.
    """
    require_package("skimage", "reading the photograph", "scikit-image")
    from skimage import data as photographs
    from skimage.io import imread

    if data is None:
        name, pixels = "scikit-image's photograph", photographs.astronaut()
    else:
        files = sorted(path for path in data.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        if not files:
            raise UserError(f"{data}: has no PNG or JPEG images; name another folder")
        name, pixels = str(files[0]), imread(files[0])
    if pixels.ndim != 3 or height > pixels.shape[0] or width > pixels.shape[1]:
        raise UserError(f"{name}: has no {height} x {width} pixels of colour; choose another")
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    crop = pixels[top : top + height, left : left + width, :3]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1)[None] / 255
