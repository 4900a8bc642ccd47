"""Networks that the page offers, in plain words: those that come with the package, and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.errors import UserError
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.purposes import PURPOSES
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.inference.shipped_weights import shipped_weights

__all__ = ["Offer", "find_offers"]


@dataclass(frozen=True)
class Offer:
    """A network to choose.

    Attributes:
        label: What it does, or what its file is called; no two offers have the same.
        about: A sentence about what it is for.
        source: A checkpoint, or the name of shipped weights.
        options: Its network's options where the checkpoint does not say them.
        descriptor: What it takes and gives.
    """

    label: str
    about: str
    source: str
    options: dict[str, Any] | None = None
    descriptor: NetworkDescriptor = field(default_factory=NetworkDescriptor)

    def load(self, device: str | None) -> Restorer:
        """Return the network with its weights.

        Raises:
            UserError: As `semanir_plugin.load`.
        """
        return load(self.source, device=device, options=self.options)


def find_offers(models: Sequence[str], device: str | None = None) -> list[Offer]:
    """Return the user's networks and the shipped ones, after loading each of them once.

    Args:
        models: Checkpoints, names of shipped weights, which come first then, or option files whose
            `path.pretrain_network_g` names the weights.
        device: Where they are to run.

    Raises:
        UserError: One cannot be loaded, or restores no images.
    """
    shipped = [name for name in (*PURPOSES, *shipped_weights()) if name in shipped_weights()]
    offers = [_offer(name) for name in dict.fromkeys([*models, *shipped])]
    return [_with_descriptor(each, device) for each in _told_apart(offers)]


def _offer(name: str) -> Offer:
    if name in PURPOSES and not Path(name).exists():
        return Offer(PURPOSES[name].label, PURPOSES[name].about, name)
    if Path(name).suffix in (".yml", ".yaml"):
        return _of_option_file(name)
    return Offer(Path(name).stem, "", name)


def _of_option_file(name: str) -> Offer:
    from semanir_plugin.option_files import read_network, read_option_file

    options, path = read_network(name), read_option_file(name).data.get("path")
    weights = path.get("pretrain_network_g") if isinstance(path, dict) else None
    if not isinstance(weights, str):
        raise UserError(f"{name}: has no path.pretrain_network_g, the weights of its network; add it")
    return Offer(Path(name).stem, "", weights, options)


def _told_apart(offers: Sequence[Offer]) -> list[Offer]:
    """Number those that have the label of an earlier one."""
    apart: dict[str, Offer] = {}
    for each in offers:
        label, number = each.label, 1
        while label in apart:
            number += 1
            label = f"{each.label} ({number})"
        apart[label] = replace(each, label=label)
    return list(apart.values())


def _with_descriptor(offer: Offer, device: str | None) -> Offer:
    restorer = offer.load(device)
    try:
        restorer.configure()
    except ValueError as error:
        raise UserError(f"{offer.source}: {error}") from error
    about = offer.about or _about(restorer)
    return replace(offer, descriptor=restorer.descriptor, about=about)


def _about(restorer: Restorer) -> str:
    told = restorer.descriptor
    size = "keeps the size" if told.scale == 1 else f"enlarges {told.scale} times"
    return f"Yours: {restorer.options['type']}, {size}, in {'colour' if told.in_channels == 3 else 'gray'}."
