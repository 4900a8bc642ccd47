"""Convert AST's weights to and from the layout of its authors' checkpoints.

Beside the names, theirs differ in the attention: queries have a linear layer of their own, keys and values share one,
the position table is flat, and the index into it is stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["AUTHORS_IMG_SIZE", "from_authors_layout", "infer_options", "is_authors_layout", "to_authors_layout"]

AUTHORS_IMG_SIZE = 128
"""The `img_size` of authors' checkpoints, which do not record it and whose shapes do not tell.

It decides whether the bottleneck shifts its windows, and so the result. Their test scripts build the network with
`--train_ps`, 128 by default, which the published commands leave as it is, for Dense-Haze too: so the published scores
were computed at 128, though Dense-Haze's trainings began at 256.
"""

# Theirs, ours; # is a number.
NAMES = (
    ("input_proj.proj.0.", "conv_first."),
    ("output_proj.proj.0.", "conv_last."),
    ("encoderlayer_#.blocks.#.", "encoder.#.layers.#."),
    ("decoderlayer_#.blocks.#.", "decoder.#.layers.#."),
    ("conv.blocks.#.", "bottom.layers.#."),
    ("dowsample_#.conv.0.", "downs.#."),
    ("upsample_#.deconv.0.", "ups.#."),
    (".attn.relative_position_bias_table", ".attn.position_table"),
    (".attn.w", ".attn.branch_logits"),
    (".mlp.linear1.0.", ".mlp.expand."),
    (".mlp.linear2.0.", ".mlp.reduce."),
    (".mlp.dwconv.0.", ".mlp.dwconv."),
    (".mlp.partial_conv3.", ".mlp.partial_conv."),
    (".mlp.fc1.", ".mlp.0."),
    (".mlp.fc2.", ".mlp.2."),
)


def _rule(old: str, new: str) -> tuple[re.Pattern[str], str]:
    pattern = re.escape(old).replace(r"\#", r"(\d+)")
    return re.compile(pattern if old.startswith(".") else f"^{pattern}"), new.replace("#", r"\1", 1).replace(
        "#", r"\2", 1
    )


TO_OURS = [_rule(theirs, ours) for theirs, ours in NAMES]
TO_THEIRS = [_rule(ours, theirs) for theirs, ours in NAMES]
UFORMER = re.compile(r"encoderlayer_\d+\.blocks\.\d+\.attn\.")
INDEX = ".attn.relative_position_index"
QUERIES, KEYS_AND_VALUES, JOINT = ".attn.qkv.to_q.", ".attn.qkv.to_kv.", ".attn.qkv."


def is_authors_layout(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are weights under the authors' names, with or without `module.` before them.

    Uformer has the same names, and attention in its encoder besides.
    """
    names = {key.removeprefix("module.") for key in state}
    return any(name.startswith("input_proj.") for name in names) and not any(map(UFORMER.match, names))


def from_authors_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an authors' checkpoint under the names and in the shapes of `AST`.

    What is none of theirs keeps its name, and its shape where that is none of theirs, so that strict loading finds it.
    """
    theirs = {key.removeprefix("module."): value for key, value in state.items()}
    joint = {key for key in theirs if QUERIES in key and _are_joinable(theirs, key)}
    ours = {}
    for key, value in theirs.items():
        if key.endswith(INDEX) or (KEYS_AND_VALUES in key and key.replace(KEYS_AND_VALUES, QUERIES) in joint):
            continue
        name = _rename(key, TO_OURS)
        if key in joint:
            name = name.replace(QUERIES, JOINT)
            value = torch.cat([value, theirs[key.replace(QUERIES, KEYS_AND_VALUES)]])
        elif name.endswith(".position_table") and value.ndim == 2 and math.isqrt(len(value)) ** 2 == len(value):
            side = math.isqrt(len(value))
            value = value.T.reshape(-1, side, side)
        ours[name] = value
    return ours


def _are_joinable(state: Mapping[str, Tensor], queries: str) -> bool:
    """Return whether there are keys and values for queries, of a shape that goes with theirs."""
    others = state.get(queries.replace(QUERIES, KEYS_AND_VALUES))
    if others is None:
        return False
    value = state[queries]
    return value.ndim > 0 and value.ndim == others.ndim and value.shape[1:] == others.shape[1:]


def to_authors_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `AST`'s weights as a `state_dict` that the authors' network loads, its index buffers included."""
    theirs = {}
    for key, value in state.items():
        name = _rename(key, TO_THEIRS)
        if JOINT in key:
            dim = len(value) // 3
            theirs[name.replace(JOINT, QUERIES)] = value[:dim]
            theirs[name.replace(JOINT, KEYS_AND_VALUES)] = value[dim:]
        elif key.endswith(".position_table"):
            theirs[name] = value.flatten(1).T.contiguous()
            theirs[name.replace("bias_table", "index")] = _position_index((value.shape[-1] + 1) // 2)
        else:
            theirs[name] = value
    return theirs


def infer_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the options of the `AST` that an authors' checkpoint is of, as its names and shapes tell them.

    Heads of the encoder, which are not used, are the authors'; `img_size` is `AUTHORS_IMG_SIZE`.

    Raises:
        ValueError: This is no complete checkpoint of theirs.
    """
    shapes = {key.removeprefix("module."): tuple(value.shape) for key, value in state.items()}
    stages = _stages(len({key.split(".")[0] for key in shapes if key.startswith("encoderlayer_")}))
    depths = [len({key.split(".")[2] for key in shapes if key.startswith(stage)}) for stage in stages]
    levels = len(depths) // 2
    kinds = {"frfn": ".mlp.partial_conv3.", "leff": ".mlp.linear1.0.", "mlp": ".mlp.fc1."}
    token_mlp = next((kind for kind, name in kinds.items() if any(name in key for key in shapes)), None)
    try:
        tables = [shapes[f"{stage}0.attn.relative_position_bias_table"] for stage in stages[levels:]]
        embed_dim, dd_in = shapes["input_proj.proj.0.weight"][:2]
        hidden = shapes["encoderlayer_0.blocks.0.mlp." + ("fc1" if token_mlp == "mlp" else "linear1.0") + ".weight"][0]
        in_chans = shapes["output_proj.proj.0.weight"][0]
    except KeyError as error:
        raise ValueError(f"an AST of its authors without {error}") from error
    except (IndexError, ValueError) as error:
        raise ValueError("an AST of its authors with weights of other shapes") from error
    if any(len(table) != 2 for table in tables):
        raise ValueError("an AST of its authors with tables of biases of another shape")
    return {
        "type": "AST",
        "img_size": AUTHORS_IMG_SIZE,
        "in_chans": in_chans,
        "dd_in": dd_in,
        "embed_dim": embed_dim,
        "depths": depths,
        "num_heads": [2**level for level in range(levels)] + [heads for _, heads in tables],
        "win_size": max(round(entries**0.5) + 1 for entries, _ in tables) // 2,
        "mlp_ratio": hidden / embed_dim / (2 if token_mlp == "frfn" else 1),
        "token_mlp": token_mlp,
    }


def _stages(levels: int) -> list[str]:
    """Return the prefix of the names of each stage, in the order of `depths`."""
    encoder, decoder = ([f"{part}layer_{level}.blocks." for level in range(levels)] for part in ("encoder", "decoder"))
    return [*encoder, "conv.blocks.", *decoder]


def _rename(key: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        key = pattern.sub(replacement, key)
    return key


def _position_index(window_size: int) -> Tensor:
    """Return (N, N), N = window_size ** 2: which row of the flat table a query, first, and a key have (Swin)."""
    offsets = torch.arange(window_size)
    offsets = offsets[:, None] - offsets + window_size - 1
    rows = offsets[:, None, :, None] * (2 * window_size - 1) + offsets[None, :, None, :]  # (y, x, y', x')
    return rows.reshape(window_size**2, window_size**2)
