"""Networks of others that spandrel knows: HAT, ESRGAN, DAT, NAFNet and some forty in all, by its registry.

spandrel is given tensors by name, of a file that was read here, and never the file. What it builds is bound by
`construction_limits`, as what files of ours ask for is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.blocks.padding import SizeRequirements
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.inference.checkpoints import check_kinds, check_numbers
from semanir_plugin.inference.construction_limits import no_larger_than
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.inference.weight_names import wrapped_networks

__all__ = ["SpandrelNetwork", "is_spandrel_there", "load_by_spandrel"]

EXTRA = "spandrel_extra_arches"
"""The package of those that may not be used commercially, Restormer among them."""

OURS = "semanir_plugin.spandrel"

MOST_LAYERS = 1_000
"""Of a network: spandrel counts layers by the largest number in their names, and builds as many."""

LONGEST_REASON = 300  # characters: torch lists all weights that do not fit

REFUSED = {
    "Inpainting": "fills in what a mask marks",
    "FaceSR": "restores faces that are cut out and aligned",
}


class SpandrelNetwork(nn.Module):
    """A network that spandrel loaded, as those of this package are.

    Args:
        model: spandrel's descriptor of it, an `ImageModelDescriptor`.

    Attributes:
        network: The network alone.
        descriptor: Its scale, channels and sizes, as spandrel tells them.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.network: nn.Module = model.model
        self._model = model
        size = model.size_requirements
        self.descriptor = NetworkDescriptor(
            scale=model.scale,
            in_channels=model.input_channels,
            out_channels=model.output_channels,
            size=SizeRequirements(minimum=max(1, size.minimum), multiple_of=size.multiple_of, square=size.square),
            half_precision=model.supports_half and model.supports_bfloat16,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch of images, (B, in_channels, H, W) in [0, 1], to (B, out_channels, scale * H, scale * W)."""
        return torch.cat([self._model(image[None]) for image in x])  # spandrel takes one at a time


def is_spandrel_there() -> bool:
    """Return whether spandrel is installed."""
    return find_spec("spandrel") is not None


def load_by_spandrel(weights: Mapping[str, Tensor], path: str | Path, device: torch.device) -> Restorer | None:
    """Return the network that weights are of, if spandrel is installed and knows it.

    Args:
        weights: Those of a network, under its own names or a wrapper's.
        path: The file, for messages.
        device: Where the network goes.

    Raises:
        UserError: It knows the network, which does not fit the weights or is none from image to image.
    """
    if not is_spandrel_there():
        return None
    for each in (weights, *(inner for _, inner in wrapped_networks(weights, path))):
        for support in _detected(each):
            _check_names(each, path)
            return _build(support.architecture, dict(each), path, device)
    return None


def _detected(weights: Mapping[str, Tensor]) -> Iterator[Any]:
    """Yield what spandrel takes weights for, the likeliest first."""
    for support in _registry().architectures("detection"):
        try:
            found = support.detect(weights)
        except Exception:  # of names that only look like an architecture's
            continue
        if found:
            yield support


def _registry() -> Any:
    """Return spandrel's registry, with that of its extra architectures where they are installed, without ours."""
    from spandrel import MAIN_REGISTRY, ArchRegistry

    registry = ArchRegistry()
    registry.add(*(each for each in MAIN_REGISTRY if type(each.architecture).__module__ != OURS))
    if find_spec(EXTRA) is not None:
        from spandrel_extra_arches import EXTRA_REGISTRY

        registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    return registry


def _check_names(weights: Mapping[str, Tensor], path: str | Path) -> None:
    for name in weights:
        if any(len(each) > 9 or int(each) >= MOST_LAYERS for each in re.findall(r"(?<![^.])\d+(?![^.])", name)):
            raise UserError(f"{path}: its '{name}' is of more than {MOST_LAYERS:,} layers; save the network anew")


def _build(architecture: Any, weights: dict[str, Tensor], path: str | Path, device: torch.device) -> Restorer:
    name = architecture.name
    try:
        with no_larger_than(weights):
            model = architecture.load(dict(weights))  # which it changes
    except Exception as error:  # of shapes that are none of its networks', whatever they make it raise
        told = one_line(error)[:LONGEST_REASON]
        raise UserError(f"{path}: spandrel takes it for {name}, which does not fit: {told}") from error
    if model.purpose in REFUSED:
        raise UserError(f"{path}: is of {name}, which {REFUSED[model.purpose]}; networks from image to image restore")
    check_kinds(model.model.state_dict(), weights, path)
    check_numbers(weights, path)
    network = SpandrelNetwork(model).eval().to(device)
    return Restorer(network, {"type": name}, network.descriptor, device)
