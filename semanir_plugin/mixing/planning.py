"""Plan the changes to a network: for each entry and each module that it matches, a block that fits there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

from torch import nn

from semanir_plugin.blocks.attention import ATTENTIONS, build_attention
from semanir_plugin.blocks.feed_forward import init_linear
from semanir_plugin.blocks.token_maps import BLOCKS, ResidualBlock, choose_heads, choose_topk
from semanir_plugin.mixing.entries import MixEntry
from semanir_plugin.mixing.patterns import match, nothing_matches, some
from semanir_plugin.mixing.places import Form, Place

__all__ = ["Plan", "plan_all"]


@dataclass(frozen=True)
class Plan:
    """A built block and its place.

    Attributes:
        label: Which entry asked for it, for messages.
        entry: That entry.
        place: Where it goes.
        block: Attention on windows, (B, N, C), where `on_windows`; else a module on (B, H, W, C).
        on_windows: Whether the network cuts the windows itself.
        shared_by: Name of the module that owns the dictionaries, where layers share them.
    """

    label: str
    entry: MixEntry
    place: Place
    block: nn.Module
    on_windows: bool
    shared_by: str | None

    @property
    def child(self) -> str:
        """The block's name in a module that it is appended to."""
        return f"mixed_{self.entry.what}"


def plan_all(entries: Sequence[Mapping[str, Any] | MixEntry], places: Mapping[str, Place]) -> list[Plan]:
    """Return a plan for each block, in the order of entries and modules.

    Raises:
        ValueError: An entry is wrong, matches nothing, or asks for a block where it cannot go; or one undoes another.
    """
    plans = [plan for index, entry in enumerate(entries) for plan in _plan_entry(index, entry, places)]
    _check_conflicts(plans)
    return plans


def _plan_entry(index: int, entry: Mapping[str, Any] | MixEntry, places: Mapping[str, Place]) -> Iterator[Plan]:
    label = f"mix[{index}]"
    try:
        entry = MixEntry.parse(entry)
        matched = match(entry.where, places)
        if not matched:
            raise ValueError(nothing_matches(entry.where, places))
        for place in matched:
            yield _plan(label, entry, place, matched, places)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{label}: {error}") from error


def _plan(label: str, entry: MixEntry, place: Place, matched: Sequence[Place], places: Mapping[str, Place]) -> Plan:
    if place.form is Form.NONE:
        shapes = " to ".join(str(shape) for shape in place.shapes) or "nothing"
        fitting = [each.name for each in places.values() if each.form is not Form.NONE]
        raise ValueError(
            f"{entry.what} cannot go to '{place.name}' ({place.kind}), which maps {shapes}: a block keeps the shape of "
            f"its features; places that do: {some(fitting)}"
        )
    attention = entry.what in ATTENTIONS
    _check_form(entry, place, attention=attention)
    on_windows = attention and place.form is Form.WINDOWS
    shares = attention and ATTENTIONS[entry.what].builds_dictionary
    shared_by = _find_owner(entry, place, matched, places) if shares else None
    try:
        block = _build_on_windows(entry, place) if on_windows else _build(entry, place)
    except (ValueError, TypeError) as error:
        heads = [heads for heads in range(1, place.dim + 1) if place.dim % heads == 0]
        fit = f"; num_heads that fit: {', '.join(map(str, heads))}" if "heads" in str(error) else ""
        raise ValueError(f"{entry.what} at '{place.name}' ({place.dim} channels): {error}{fit}") from error
    init_linear(block)
    return Plan(label, entry, place, block, on_windows, shared_by)


def _check_form(entry: MixEntry, place: Place, *, attention: bool) -> None:
    if place.form is Form.SEQUENCE and place.told_by is None and entry.what != "mlp":
        raise ValueError(
            f"{entry.what} cannot go to '{place.name}' ({place.kind}): no module around is given the height and width "
            f"of its {place.tokens} tokens; mlp, which needs none, can"
        )
    module = place.module
    if (
        entry.how == "append"
        and isinstance(module, nn.Sequential)
        and type(module).forward is not nn.Sequential.forward
    ):
        raise ValueError(
            f"{entry.what} cannot be appended to '{place.name}' ({place.kind}), a sequence with a forward of its own: "
            "append it to a module in it or around"
        )
    if not attention or place.form is not Form.WINDOWS:
        return
    if entry.how == "append" or entry.residual:
        raise ValueError(
            f"{entry.what} cannot be appended to '{place.name}' ({place.kind}), whose windows hide what is around: "
            "use how: replace there without residual, or append it to a module around"
        )
    for option in ("window_size", "shift"):
        if option in entry.options:
            raise ValueError(f"{option} of {entry.what} at '{place.name}' is the network's own: remove it")


def _build(entry: MixEntry, place: Place) -> nn.Module:
    block = BLOCKS[entry.what](place.dim, **entry.options)
    of_maps = place.form in (Form.MAP, Form.MAP_LAST)
    if entry.how == "append" or (of_maps if entry.residual is None else entry.residual):
        return ResidualBlock(place.dim, block, zero_init=entry.how == "append", channels_first=False)
    return block


def _build_on_windows(entry: MixEntry, place: Place) -> nn.Module:
    heads = entry.options.get("num_heads") or getattr(place.module, "num_heads", None) or choose_heads(place.dim)
    choose_topk(entry.options.get("topk"), place.tokens)
    similarity = entry.options.get("similarity", "dot")
    return build_attention(entry.what, place.dim, isqrt(place.tokens), heads, similarity=similarity)


def _find_owner(entry: MixEntry, place: Place, matched: Sequence[Place], places: Mapping[str, Place]) -> str | None:
    """Return the name of the module whose key-semantic layers share their dictionaries with the one at a place."""
    around = [name for name in _around(place.name) if name in places]
    if entry.share is True:
        in_lists = [name for name in around if name.rpartition(".")[2].isdigit()]
        several = [name for name in in_lists if sum(each.name.startswith(f"{name}.") for each in matched) > 1]
        return several[-1] if several else None
    if entry.share is False:
        return None
    owners = [name for name in around if places[name] in match(entry.share, places)]
    if not owners:
        raise ValueError(
            f"no module around '{place.name}' matches share '{entry.share}'; around are: "
            + ", ".join(f"{name} ({places[name].kind})" for name in around)
        )
    return owners[0]


def _around(name: str) -> Iterator[str]:
    """Yield the names of the modules around one, the nearest first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _check_conflicts(plans: Sequence[Plan]) -> None:
    """Refuse plans of which one would undo another."""
    replaced: dict[str, str] = {}
    appended: set[tuple[str, str]] = set()
    for plan in plans:
        name = plan.place.name
        if plan.entry.how == "replace":
            if name in replaced:
                raise ValueError(f"{plan.label}: '{name}' is replaced already, by {replaced[name]}")
            replaced[name] = plan.label
        else:
            if (name, plan.child) in appended or hasattr(plan.place.module, plan.child):
                raise ValueError(f"{plan.label}: '{name}' has {plan.entry.what} appended already")
            appended.add((name, plan.child))
    for plan in plans:
        name = plan.place.name
        gone = [outer for outer in _around(name) if outer in replaced]
        gone += [name] if plan.entry.how == "append" and name in replaced else []
        if gone:
            raise ValueError(f"{plan.label}: '{name}' goes with '{gone[0]}', which {replaced[gone[0]]} replaces")
