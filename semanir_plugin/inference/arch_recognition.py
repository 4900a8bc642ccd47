"""Recognise which of BasicSR's architectures bare weights belong to, by their names and shapes.

Known are the four that most published files are of: SwinIR, RRDBNet (ESRGAN, Real-ESRGAN), SRVGGNetCompact and EDSR.
What leaves no trace in the weights is as in the published ones, and stands in the functions below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["recognize"]

State = Mapping[str, Tensor]
Options = dict[str, Any]


def recognize(state: State) -> Options | None:
    """Return the options of the network that weights belong to, `type` included; None where it is unknown.

    Args:
        state: The weights under their names, as a state dict.
    """
    for marks, infer in KNOWN:
        if all(mark in state for mark in marks):
            try:
                return infer(state)
            except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):  # the names, but not the shapes
                return None
    return None


def _swinir(state: State) -> Options:
    """Return SwinIR's options; windows of 7 are of its networks for JPEG, which alone work on the range 0 to 255."""
    first = "layers.0.residual_group.blocks.0."
    stages = range(_count(state, "layers."))
    tables = [state[f"layers.{stage}.residual_group.blocks.0.attn.{TABLE}"] for stage in stages]
    window_size = (math.isqrt(len(tables[0])) + 1) // 2
    dim, in_chans = state["conv_first.weight"].shape[:2]
    upsampler, upscale = _swinir_head(state, in_chans)
    masks = state.get("layers.0.residual_group.blocks.1.attn_mask")
    windows = 1 if masks is None else math.isqrt(len(masks))
    return {
        "type": "SwinIR",
        "img_size": windows * window_size,
        "in_chans": in_chans,
        "embed_dim": dim,
        "depths": [_count(state, f"layers.{stage}.residual_group.blocks.") for stage in stages],
        "num_heads": [table.shape[1] for table in tables],
        "window_size": window_size,
        "mlp_ratio": state[f"{first}mlp.fc1.weight"].shape[0] / dim,
        "qkv_bias": f"{first}attn.qkv.bias" in state,
        "ape": "absolute_pos_embed" in state,
        "patch_norm": "patch_embed.norm.weight" in state,
        "upscale": upscale,
        "img_range": 255.0 if window_size == 7 else 1.0,
        "upsampler": upsampler,
        "resi_connection": "1conv" if "layers.0.conv.weight" in state else "3conv",
    }


TABLE = "relative_position_bias_table"


def _swinir_head(state: State, channels: int) -> tuple[str, int]:
    if "conv_up1.weight" in state:
        return "nearest+conv", 4
    if "conv_before_upsample.0.weight" in state:
        return "pixelshuffle", _pixel_shuffles(state)
    if "upsample.0.weight" in state:
        return "pixelshuffledirect", math.isqrt(len(state["upsample.0.weight"]) // channels)
    return "", 1


def _rrdbnet(state: State) -> Options:
    """Return RRDBNet's options; for x2 and x1 it first folds 2 x 2 and 4 x 4 pixels into channels."""
    num_feat, folded = state["conv_first.weight"].shape[:2]
    channels = len(state["conv_last.weight"])
    return {
        "type": "RRDBNet",
        "num_in_ch": channels,
        "num_out_ch": channels,
        "scale": {1: 4, 4: 2, 16: 1}[folded // channels],
        "num_feat": num_feat,
        "num_block": _count(state, "body."),
        "num_grow_ch": len(state["body.0.rdb1.conv1.weight"]),
    }


def _compact(state: State) -> Options:
    """Return SRVGGNetCompact's options; of activations only PReLU has weights, and all published networks use it."""
    convolutions = [key for key in state if key.startswith("body.") and state[key].ndim == 4]
    num_feat, channels = state["body.0.weight"].shape[:2]
    last = max(convolutions, key=lambda key: int(key.split(".")[1]))
    if state["body.1.weight"].ndim != 1:
        raise ValueError("its activation is no PReLU")
    return {
        "type": "SRVGGNetCompact",
        "num_in_ch": channels,
        "num_out_ch": channels,
        "num_feat": num_feat,
        "num_conv": len(convolutions) - 2,
        "upscale": math.isqrt(len(state[last]) // channels),
        "act_type": "prelu",
    }


def _edsr(state: State) -> Options:
    """Return EDSR's options; the published large networks, of 256 features, alone scale their residuals, by 0.1."""
    num_feat, channels = state["conv_first.weight"].shape[:2]
    return {
        "type": "EDSR",
        "num_in_ch": channels,
        "num_out_ch": len(state["conv_last.weight"]),
        "num_feat": num_feat,
        "num_block": _count(state, "body."),
        "upscale": _pixel_shuffles(state),
        "res_scale": 0.1 if num_feat == 256 else 1,
    }


def _pixel_shuffles(state: State) -> int:
    """Return the factor of BasicSR's `Upsample`: each of its convolutions makes n * n times as many channels."""
    weights = [tensor for key, tensor in state.items() if key.startswith("upsample.") and key.endswith(".weight")]
    return math.prod(math.isqrt(weight.shape[0] // weight.shape[1]) for weight in weights)


def _count(state: State, prefix: str) -> int:
    """Return the number of modules of a list that have weights."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


KNOWN: tuple[tuple[tuple[str, ...], Callable[[State], Options]], ...] = (
    (("conv_first.weight", f"layers.0.residual_group.blocks.0.attn.{TABLE}"), _swinir),
    (("conv_first.weight", "body.0.rdb1.conv1.weight", "conv_up1.weight"), _rrdbnet),
    (("conv_first.weight", "body.0.conv1.weight", "upsample.0.weight", "conv_after_body.weight"), _edsr),
    (("body.0.weight", "body.1.weight"), _compact),
)
