"""Mix blocks into a network, and report the changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from semanir_plugin.blocks.attention import Attention
from semanir_plugin.blocks.shared_semantics import SharedSemantics
from semanir_plugin.blocks.token_maps import ResidualBlock, choose_topk
from semanir_plugin.mixing.entries import MixEntry
from semanir_plugin.mixing.places import find_places
from semanir_plugin.mixing.planning import Plan, plan_all
from semanir_plugin.mixing.stand_ins import AppendedHook, SequenceSize, StandIn, WindowsStandIn

__all__ = ["Change", "Mixed", "mix"]


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
    """Result of `mix`.

    Attributes:
        network: The network, the one given or its copy.
        changes: Changes, in the order of entries and modules.
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
    plans = plan_all(entries, places)
    if on_copy:
        network = copy.deepcopy(network)
    installer = _Installer(network)
    changes = tuple(map(installer.carry_out, plans))
    installer.finish()
    return Mixed(network, changes)


class _Installer:
    """Carry out plans on one network, and create the caches that their blocks share."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._shared: dict[str, SharedSemantics] = {}
        self._sizes: dict[str, SequenceSize] = {}

    def carry_out(self, plan: Plan) -> Change:
        """Put a block in."""
        module = self._network.get_submodule(plan.place.name)
        parameter = next(self._network.parameters(), None)
        if parameter is not None:
            plan.block.to(parameter)
        plan.block.train(module.training)
        replaces = plan.entry.how == "replace"
        inside = self._replace(plan) if replaces else self._append(plan, module)
        return Change(
            place=plan.place.name,
            kind=plan.place.kind,
            what=plan.entry.what,
            how=plan.entry.how,
            block=f"{plan.place.name}.{inside}",
            parameters=_count(plan.block),
            removed=_count(module) if replaces else 0,
            shared_by=plan.shared_by,
        )

    def _replace(self, plan: Plan) -> str:
        parent, _, child = plan.place.name.rpartition(".")
        around = self._network.get_submodule(parent)
        setattr(around, child, self._on_windows(plan, around) if plan.on_windows else self._stand_in(plan))
        return "mixed"

    def _append(self, plan: Plan, module: nn.Module) -> str:
        if isinstance(module, nn.Sequential):  # calls its children in turn, and so a new one last
            module.add_module(plan.child, self._stand_in(plan))
            return f"{plan.child}.mixed"
        stand_in = self._stand_in(plan)
        module.add_module(plan.child, stand_in.mixed)
        module.register_forward_hook(AppendedHook(plan.child, plan.place.form, stand_in.size))
        return plan.child

    def _stand_in(self, plan: Plan) -> StandIn:
        inner: Any = plan.block.block if isinstance(plan.block, ResidualBlock) else plan.block
        if plan.shared_by is not None:
            inner.shared = self._shared_of(plan)
        told = plan.place.told_by
        size = None if told is None else self._sizes.setdefault(told, SequenceSize())
        return StandIn(plan.block, plan.place.form, size)

    def _on_windows(self, plan: Plan, around: nn.Module) -> WindowsStandIn:
        assert isinstance(plan.block, Attention)
        return WindowsStandIn(
            plan.block,
            topk=choose_topk(plan.entry.options.get("topk"), plan.place.tokens),
            shared=self._shared_of(plan),
            position=getattr(around, "shift_size", None),
        )

    def _shared_of(self, plan: Plan) -> SharedSemantics | None:
        owner = plan.shared_by
        return None if owner is None else self._shared.setdefault(owner, SharedSemantics())

    def finish(self) -> None:
        """Let each owner begin its passes: forget the last one's dictionaries, note its sequences' size."""
        for name, shared in self._shared.items():
            self._network.get_submodule(name).register_forward_pre_hook(_Clear(shared))
        for name, size in self._sizes.items():
            self._network.get_submodule(name).register_forward_pre_hook(size, with_kwargs=True)


class _Clear:
    """A forward pre-hook; unlike a function's closure it is copied with its network."""

    def __init__(self, shared: SharedSemantics) -> None:
        self.shared = shared

    def __call__(self, *_: Any) -> None:
        self.shared.clear()


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
