"""Validation of a network's section: its architecture, options and scale, and what is mixed into it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from basicsr.archs.swinir_arch import SwinIR
from basicsr.utils.registry import ARCH_REGISTRY

from semanir_plugin.archs.mixed_arch import MixedArch
from semanir_plugin.basicsr_host.engine import host_options
from semanir_plugin.basicsr_host.engine.declared import is_own
from semanir_plugin.basicsr_host.engine.network_sketches import find_refusal
from semanir_plugin.errors import one_line
from semanir_plugin.mixing import MixEntry
from semanir_plugin.schema.sections import Section

__all__ = ["check_network"]

PER_STAGE = ("depths", "num_heads")


def check_network(network: Section, scale: Any) -> None:
    """Report a network of unknown architecture or options, or of another scale than the images; None: of any."""
    whole, target = network, network.look_up("architecture", ARCH_REGISTRY)
    if target is None or not _check_architecture(network, target):
        return
    built = target
    if target is MixedArch:
        network = network.sub("base")
        target = network.look_up("architecture", ARCH_REGISTRY)
        if target is None or not _check_architecture(network, target):
            return
    if _check_stages(network, target):
        _check_built(whole, built)
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


def _check_stages(network: Section, target: Any) -> bool:
    """Return whether lists with an entry for each stage have some, as many as each other, and heads that fit."""
    values = {**_defaults(target), **network.values}
    lists = {key: values[key] for key in PER_STAGE if isinstance(values.get(key), list | tuple)}
    empty = [key for key, entries in lists.items() if not entries]
    counts = {key: len(entries) for key, entries in lists.items()}
    if empty:
        network.report(f"{empty[0]} is empty: give it an entry for each stage", at=empty[0])
    elif len(counts) == 2 and len(set(counts.values())) == 2:
        told = " and ".join(f"{key} {count}" for key, count in counts.items())
        network.report(f"depths and num_heads need an entry for each stage, but have {told}", at="num_heads")
    else:
        return target is not SwinIR or _check_heads(network, values["embed_dim"], values["num_heads"])
    return False


def _check_heads(network: Section, width: int, heads: Sequence[int]) -> bool:
    """Return whether SwinIR's channels are divided among its heads, which it is built without, but cannot run."""
    wrong = [each for each in heads if width % each]
    if wrong:
        network.report(f"embed_dim {width} is not a multiple of num_heads {wrong[0]}: make it one", at="num_heads")
    return not wrong


def _check_built(network: Section, target: Any) -> None:
    """Report what the constructor refuses of options that are right one by one, at the option that it names."""
    options = {key: value for key, value in network.values.items() if key != "type"}
    error = find_refusal(target, options)
    if error is None:
        return
    reason = one_line(error)
    named = [key for key in options if re.search(rf"\b{re.escape(key)}\b", reason)]
    network.report(f"{target.__name__} cannot be built: {reason}", at=named[0] if named else "type")


def _find_upscale(network: Section, target: Any) -> Any:
    """Return a network's `upscale`, or its default; None where it has none."""
    return network.values.get("upscale", _defaults(target).get("upscale"))


def _defaults(target: Any) -> dict[str, Any]:
    parameters = inspect.signature(target).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}
