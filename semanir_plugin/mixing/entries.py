"""Parse an entry of `mix`: where, what and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from semanir_plugin.blocks.token_maps import BLOCKS
from semanir_plugin.errors import near_match
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.values import conforms, describe_hint

__all__ = ["MixEntry"]

HOWS = ("replace", "append")
# What mixing fills in itself.
FILLED = {"dim", "shared"}


@dataclass(frozen=True, kw_only=True)
class MixEntry:
    """One kind of block, and where it goes.

    Attributes:
        where: A pattern of module names, such as "body.*" or "**.attn", or the name of a class. `*` stands for anything
            within a part of a name, `?` for one character, `**` for any number of parts.
        what: Kind of block: "key_semantic", "assa", "window", "frfn", "leff" or "mlp".
        options: Its options.
        how: "replace", or "append" with a scale that starts at zero, so that the network computes what it did.
        residual: Where a block replaces a module, whether it adds to its input, after a LayerNorm; by default where
            features are maps, as in convolutional networks, and not where they are tokens, as in transformers, whose
            layers normalise and add themselves.
        share: Of key-semantic attention, who owns the dictionaries that its layers share: a pattern or class as in
            `where`; True: the outermost module in a list or sequence that has several of the places; False: each layer
            builds its own.
    """

    where: str
    what: str
    options: Mapping[str, Any] = field(default_factory=dict)
    how: str = "append"
    residual: bool | None = None
    share: bool | str = True

    @classmethod
    def parse(cls, entry: Mapping[str, Any] | MixEntry) -> MixEntry:
        """Read an entry as it stands in an option file: `what` is a kind, or a mapping with `type` and options.

        Raises:
            ValueError: Something is missing, unknown or of the wrong kind.
        """
        if isinstance(entry, MixEntry):
            return entry
        if not isinstance(entry, Mapping):
            raise ValueError(f"an entry has where, what and how, got {entry!r}")
        known = [each.name for each in fields(cls) if each.name != "options"]
        for key in entry:
            if key not in known:
                raise ValueError(_unknown("key", str(key), known))
        missing = [key for key in ("where", "what") if not entry.get(key)]
        if missing:
            raise ValueError(f"missing {' and '.join(missing)}")
        kind, options = _parse_what(entry["what"])
        return cls(**{**entry, "what": kind, "options": options})

    def __post_init__(self) -> None:
        if self.what not in BLOCKS:
            raise ValueError(_unknown("block", self.what, BLOCKS))
        if self.how not in HOWS:
            raise ValueError(f"how must be 'replace' or 'append', got {self.how!r}")
        for name, kinds in (("residual", bool | None), ("share", bool | str), ("where", str)):
            if not isinstance(getattr(self, name), kinds):
                raise ValueError(f"{name} must be {_describe(kinds)}, got {getattr(self, name)!r}")
        hints = {each.name: each.hint for each in options_of(BLOCKS[self.what]) if each.name not in FILLED}
        for name, value in self.options.items():
            if name not in hints:
                raise ValueError(_unknown(f"option of {self.what}", name, hints))
            if not conforms(value, hints[name]):
                raise ValueError(f"{self.what}: {name} must be {describe_hint(hints[name])}, got {value!r}")


def _parse_what(what: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(what, str):
        return what, {}
    if not isinstance(what, Mapping) or not isinstance(what.get("type"), str):
        raise ValueError(f"what must be a kind of block, or a mapping with its type and options, got {what!r}")
    return what["type"], {key: value for key, value in what.items() if key != "type"}


def _unknown(kind: str, name: str, known: Any) -> str:
    near = near_match(name, known)
    hint = f"did you mean '{near}'? " if near else ""
    return f"unknown {kind} '{name}'; {hint}known: {', '.join(known)}"


def _describe(kinds: Any) -> str:
    return {str: "a string", bool | str: "true, false or a string"}.get(kinds, "true or false")
