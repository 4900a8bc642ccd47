"""Weights that a training begins with: those of a network like it, where some layers may be of other shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainings.files import Options

if TYPE_CHECKING:
    import torch

COLOURS = 3
LAST_LAYER = "head.conv."  # of SemanIR with `pixelshuffledirect`
LEAST_SHARE = 0.5  # of a network's numbers that the weights must have; with fewer they are of another network


def choose_beginning(weights: Path, recipe: Options, out: Path) -> Path:
    """Return a file of weights that fit the recipe's network: the one given, or else one made of it, and say so.

    Of a network for another scale the filters of the last layer, one for each place within a pixel of the input, are
    interpolated; those of images with three channels become ones of gray images. Other weights of other shapes begin as
    the network does without any.

    Args:
        weights: A checkpoint that says what network it is of.
        recipe: With `network_g`, and the seed of what begins anew.
        out: Where a file is written if it has to be.

    Raises:
        UserError: The file cannot be read, says nothing of its network, or has less than half of what is needed.
    """
    import torch

    from semanir_plugin.inference.checkpoints import save_weights
    from semanir_plugin.inference.loading import build_network, load

    known = load(weights, device="cpu").module.state_dict()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.get("manual_seed") or 0)
        network = build_network(recipe["network_g"], weights)
    own = network.state_dict()
    fitted = {name: _fit(name, known[name], value.shape) for name, value in own.items() if name in known}
    taken = {name: value for name, value in fitted.items() if value is not None}
    _check_share(weights, own, taken)
    changed = sorted(name for name in taken if known[name].shape != own[name].shape)
    anew = sorted(own.keys() - taken.keys())
    if not changed and not anew:
        return weights
    for told, names in (("made to fit", changed), ("anew", anew)):
        if names:
            print(f"{weights}: {told} are {', '.join(names)}")
    network.load_state_dict(own | taken)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, network, recipe["network_g"])
    return out


def _fit(name: str, known: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Return weights in a shape: as they are, for another scale, or for gray images; None if nothing fits."""
    if known.shape == shape:
        return known
    differ = [axis for axis in range(known.dim()) if known.dim() == len(shape) and known.shape[axis] != shape[axis]]
    if differ == [0] and name.startswith(LAST_LAYER):
        return _rescale(known, shape)
    if differ == [0] and (known.shape[0], shape[0]) == (3, 1):  # an output: gray is the mean of the three
        return known.mean(0, keepdim=True)
    if differ == [1] and (known.shape[1], shape[1]) == (3, 1):  # an input, three times the same
        return known.sum(1, keepdim=True)
    return None


def _rescale(known: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Interpolate filters (C s s, ...) of a convolution before a pixel shuffle to another s; None of other shapes."""
    from torch.nn.functional import interpolate

    old, new = (math.isqrt(count // COLOURS) for count in (known.shape[0], shape[0]))
    if (COLOURS * old**2, COLOURS * new**2) != (known.shape[0], shape[0]):
        return None
    places = known.reshape(COLOURS, old, old, -1).permute(0, 3, 1, 2)
    return interpolate(places, (new, new), mode="bilinear").permute(0, 2, 3, 1).reshape(shape)


def _check_share(path: Path, own: Mapping[str, torch.Tensor], taken: Mapping[str, torch.Tensor]) -> None:
    from semanir_plugin.errors import UserError

    found, needed = (sum(value.numel() for value in each.values()) for each in (taken, own))
    if found < LEAST_SHARE * needed:
        raise UserError(f"{path}: has {found:,} of the network's {needed:,} weights; name those of a network like it")
