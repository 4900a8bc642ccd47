"""Mixing blocks into a network: the one function, and its account of what it did."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

from torch import nn

from semanir_plugin.blocks.attention import build_attention
from semanir_plugin.blocks.feed_forward import init_linear
from semanir_plugin.blocks.shared_semantics import SharedSemantics
from semanir_plugin.blocks.token_maps import BLOCKS, ResidualBlock, choose_heads, choose_topk
from semanir_plugin.errors import near_match
from semanir_plugin.mixing.entries import MixEntry
from semanir_plugin.mixing.places import Form, Place, find_places
from semanir_plugin.mixing.stand_ins import AppendedHook, SequenceSize, StandIn, WindowsStandIn

__all__ = ["Change", "Mixed", "mix"]

ATTENTIONS = ("key_semantic", "assa", "window")
# How many candidates an error lists.
LISTED = 6


@dataclass(frozen=True)
class Change:
    """One block in a network.

    Attributes:
        place: Name of the module that was replaced, or that the block was appended to.
        kind: Name of that module's class.
        what: Kind of the block.
        how: "replace" or "append".
        block: Name of the block's module.
        parameters: How many parameters came.
        removed: How many went, with the module that was replaced.
        shared_by: Of key-semantic attention, name of the module that owns its dictionaries, if layers share them.
    """

    place: str
    kind: str
    what: str
    how: str
    block: str
    parameters: int
    removed: int = 0
    shared_by: str | None = None

    def __str__(self) -> str:
        verb = "instead of" if self.how == "replace" else "behind"
        shared = f", dictionaries shared in {self.shared_by}" if self.shared_by else ""
        return f"{self.what} {verb} {self.place} ({self.kind}): {self.parameters - self.removed:+,} parameters{shared}"


@dataclass(frozen=True)
class Mixed:
    """What `mix` returns.

    Attributes:
        network: The network, the one given or its copy.
        changes: What was changed, in the order of entries and modules.
    """

    network: nn.Module
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


def mix(
    network: nn.Module,
    entries: Sequence[Mapping[str, Any] | MixEntry],
    *,
    on_copy: bool = False,
    example: Sequence[int] | None = None,
) -> Mixed:
    """Put blocks in the place of modules of a network, or behind them.

    The names of all that stays are as before; the names of what comes have a part that begins with `mixed`. The network
    is run once on a trial image, to see what features its modules have, and nothing is changed if an entry is wrong.

    Args:
        network: Any network that takes a batch of images alone.
        entries: Where, what and how: `MixEntry`, or mappings as in option files. All patterns are of the network as it
            is given.
        on_copy: Change a copy instead of `network`.
        example: (C, H, W) of an image that the network takes, H and W different; by default tried out.

    Returns:
        The network and what was changed.

    Raises:
        ValueError: An entry is wrong, matches nothing, or asks for a block where it cannot go; or the network does not
            run on a trial image.
    """
    if not entries:
        raise ValueError("mix needs one entry or more")
    places = find_places(network, example)
    plans = [plan for index, entry in enumerate(entries) for plan in _plan_entry(index, entry, places)]
    _check_conflicts(plans)
    if on_copy:
        network = copy.deepcopy(network)
    owners = _Owners()
    changes = tuple(plan.carry_out(network, owners) for plan in plans)
    owners.hang_on(network)
    return Mixed(network, changes)


@dataclass(frozen=True)
class _Plan:
    """A block that is ready to go to its place."""

    label: str
    entry: MixEntry
    place: Place
    block: nn.Module  # on windows where `on_windows`, else on (B, H, W, C)
    on_windows: bool
    shared_by: str | None

    @property
    def child(self) -> str:
        return f"mixed_{self.entry.what}"

    def carry_out(self, network: nn.Module, owners: _Owners) -> Change:
        """Put the block in."""
        name, module = self.place.name, network.get_submodule(self.place.name)
        parameter = next(network.parameters(), None)
        if parameter is not None:
            self.block.to(parameter)
        self.block.train(module.training)
        shared = owners.shared(self.shared_by)
        if shared is not None and not self.on_windows:
            _inner(self.block).shared = shared
        size = owners.size(self.place.told_by)
        removed = 0
        if self.entry.how == "replace":
            removed = sum(p.numel() for p in module.parameters())
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, self._stand_in(network, shared, size))
            inside = "mixed"
        else:
            inside = self._append(module, size)
        count = sum(p.numel() for p in self.block.parameters())
        how = self.entry.how
        return Change(name, self.place.kind, self.entry.what, how, f"{name}.{inside}", count, removed, self.shared_by)

    def _append(self, module: nn.Module, size: SequenceSize | None) -> str:
        """Put the block behind a module; return its name within it."""
        if isinstance(module, nn.Sequential):  # calls its children in turn, and so a new one last
            module.add_module(self.child, StandIn(self.block, self.place.form, size))
            return f"{self.child}.mixed"
        module.add_module(self.child, self.block)
        module.register_forward_hook(AppendedHook(self.child, self.place.form, size))
        return self.child

    def _stand_in(self, network: nn.Module, shared: SharedSemantics | None, size: SequenceSize | None) -> nn.Module:
        if not self.on_windows:
            return StandIn(self.block, self.place.form, size)
        assert isinstance(self.block, nn.Module)
        parent = network.get_submodule(self.place.name.rpartition(".")[0])
        options = self.entry.options
        return WindowsStandIn(
            self.block,  # type: ignore[arg-type]
            topk=choose_topk(options.get("topk"), self.place.tokens),
            similarity=options.get("similarity", "dot"),
            shared=shared,
            position=getattr(parent, "shift_size", None),
        )


class _Owners:
    """What the blocks of one network share, made once and hung on the modules that own it."""

    def __init__(self) -> None:
        self._shared: dict[str, SharedSemantics] = {}
        self._sizes: dict[str, SequenceSize] = {}

    def shared(self, owner: str | None) -> SharedSemantics | None:
        """Return the dictionaries of a module."""
        return None if owner is None else self._shared.setdefault(owner, SharedSemantics())

    def size(self, told: str | None) -> SequenceSize | None:
        """Return the size of the sequences in a module."""
        return None if told is None else self._sizes.setdefault(told, SequenceSize())

    def hang_on(self, network: nn.Module) -> None:
        """Let each owner begin its passes: forget the last one's dictionaries, note its sequences' size."""
        for name, shared in self._shared.items():
            network.get_submodule(name).register_forward_pre_hook(_Clear(shared))
        for name, size in self._sizes.items():
            network.get_submodule(name).register_forward_pre_hook(size, with_kwargs=True)


class _Clear:
    """A forward pre-hook; unlike a function's closure it is copied with its network."""

    def __init__(self, shared: SharedSemantics) -> None:
        self.shared = shared

    def __call__(self, *_: Any) -> None:
        self.shared.clear()


def _plan_entry(index: int, entry: Mapping[str, Any] | MixEntry, places: Mapping[str, Place]) -> Iterator[_Plan]:
    label = f"mix[{index}]"
    try:
        entry = MixEntry.parse(entry)
        matched = _match(entry.where, places)
        if not matched:
            raise ValueError(_nothing_matches(entry.where, places))
        for place in matched:
            yield _plan(label, entry, place, matched, places)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{label}: {error}") from error


def _match(pattern: str, places: Mapping[str, Place]) -> list[Place]:
    """Return the places whose name matches a pattern, or whose class is called so."""
    expression = re.compile(_translate(pattern))
    return [place for place in places.values() if expression.fullmatch(place.name) or place.kind == pattern]


def _translate(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    *parts, last = pattern.split(".")
    before = [r"(?:[^.]+\.)*" if part == "**" else _translate_part(part) + r"\." for part in parts]
    return "".join(before) + (r"[^.]+(?:\.[^.]+)*" if last == "**" else _translate_part(last))


def _translate_part(part: str) -> str:
    return re.escape(part).replace(r"\*", "[^.]*").replace(r"\?", "[^.]")


def _nothing_matches(pattern: str, places: Mapping[str, Place]) -> str:
    fitting = [place for place in places.values() if place.form is not Form.NONE]
    kinds, names = list({place.kind: None for place in fitting}), [place.name for place in fitting]
    deeper = pattern.replace("*", "**")
    near = deeper if "**" not in pattern and _match(deeper, places) else near_match(pattern, [*names, *kinds])
    hint = f"did you mean '{near}'? " if near else ""
    return f"nothing matches '{pattern}'; {hint}classes: {', '.join(kinds)}; names: {_some(names)}"


def _plan(label: str, entry: MixEntry, place: Place, matched: Sequence[Place], places: Mapping[str, Place]) -> _Plan:
    if place.form is Form.NONE:
        shapes = " to ".join(str(shape) for shape in place.shapes) or "nothing"
        fitting = [each.name for each in places.values() if each.form is not Form.NONE]
        raise ValueError(
            f"{entry.what} cannot go to '{place.name}' ({place.kind}), which maps {shapes}: a block keeps the shape of "
            f"its features; places that do: {_some(fitting)}"
        )
    attention = entry.what in ATTENTIONS
    _check_form(entry, place, attention=attention)
    on_windows = attention and place.form is Form.WINDOWS
    shared_by = _find_owner(entry, place, matched, places) if entry.what == "key_semantic" else None
    try:
        block = _build_on_windows(entry, place) if on_windows else _build(entry, place)
    except (ValueError, TypeError) as error:
        heads = [heads for heads in range(1, place.dim + 1) if place.dim % heads == 0]
        fit = f"; num_heads that fit: {', '.join(map(str, heads))}" if "heads" in str(error) else ""
        raise ValueError(f"{entry.what} at '{place.name}' ({place.dim} channels): {error}{fit}") from error
    init_linear(block)
    return _Plan(label, entry, place, block, on_windows, shared_by)


def _check_form(entry: MixEntry, place: Place, *, attention: bool) -> None:
    if place.form is Form.SEQUENCE and place.told_by is None and entry.what != "mlp":
        raise ValueError(
            f"{entry.what} cannot go to '{place.name}' ({place.kind}): no module around is given the height and width "
            f"of its {place.tokens} tokens; mlp, which needs none, can"
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
    return build_attention(entry.what, place.dim, isqrt(place.tokens), heads)


def _inner(block: nn.Module) -> Any:
    return block.block if isinstance(block, ResidualBlock) else block


def _find_owner(entry: MixEntry, place: Place, matched: Sequence[Place], places: Mapping[str, Place]) -> str | None:
    """Return the name of the module whose key-semantic layers share their dictionaries with the one at a place."""
    around = [name for name in _around(place.name) if name in places]
    if entry.share is True:
        in_lists = [name for name in around if name.rpartition(".")[2].isdigit()]
        several = [name for name in in_lists if sum(each.name.startswith(f"{name}.") for each in matched) > 1]
        return several[-1] if several else None
    if entry.share is False:
        return None
    owners = [name for name in around if places[name] in _match(entry.share, places)]
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


def _check_conflicts(plans: Sequence[_Plan]) -> None:
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


def _some(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
