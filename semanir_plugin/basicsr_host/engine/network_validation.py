"""Validation of a network's section: its architecture, options and scale, and what is mixed into it."""

from __future__ import annotations

import inspect
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY

from semanir_plugin.archs.mixed_arch import MixedArch
from semanir_plugin.basicsr_host.engine import host_options
from semanir_plugin.basicsr_host.engine.declared import is_own
from semanir_plugin.mixing import MixEntry
from semanir_plugin.schema.sections import Section

__all__ = ["check_network"]


def check_network(network: Section, scale: Any) -> None:
    """Report a network of unknown architecture or options, or of another scale than the images; None: of any."""
    target = network.look_up("architecture", ARCH_REGISTRY)
    if target is None or not _check_architecture(network, target):
        return
    if target is MixedArch:
        network = network.sub("base")
        target = network.look_up("architecture", ARCH_REGISTRY)
        if target is None or not _check_architecture(network, target):
            return
    upscale = _find_upscale(network, target)
    if scale is not None and upscale is not None and scale != upscale:
        by_default = "" if "upscale" in network.values else ", the default,"
        message = f"upscale {upscale}{by_default} is not the scale {scale} of the datasets: make them equal"
        network.report(message, at="upscale")


def _check_architecture(network: Section, target: Any) -> bool:
    hints = {} if is_own(target) else host_options.NETWORK_HINTS
    right = network.check_call(target, extra={"type"}, hints=hints)
    if target is MixedArch and isinstance(network.values.get("mix"), list):
        for index, entry in enumerate(network.values["mix"]):
            try:
                MixEntry.parse(entry)
            except ValueError as error:
                network.report(f"mix[{index}]: {error}", at="mix")
    return right


def _find_upscale(network: Section, target: Any) -> Any:
    """Return a network's `upscale`, or its default; None where it has none."""
    parameters = inspect.signature(target).parameters
    default = parameters["upscale"].default if "upscale" in parameters else None
    return network.values.get("upscale", default)
