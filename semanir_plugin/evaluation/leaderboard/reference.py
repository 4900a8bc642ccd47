"""Reference of the options of `basicsr leaderboard`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from semanir_plugin.basicsr_host.engine.reference import Part, declared_part
from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.evaluation.leaderboard.board import MODEL_KINDS, BoardOptions, BoardPathOptions
from semanir_plugin.evaluation.leaderboard.model_cost import CostOptions
from semanir_plugin.evaluation.leaderboard.test_sets import TestSetOptions
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.json_schema import Schema, section_schema

__all__ = ["board_parts", "board_schema"]


def board_parts() -> Iterator[Part]:
    """Yield the parts of the reference of a leaderboard's option file."""
    yield declared_part("Leaderboards", BoardOptions)
    yield declared_part("`test_sets:*` of a leaderboard", TestSetOptions)
    for key, kind in MODEL_KINDS.items():
        yield declared_part(f"`models:*` of a leaderboard, with `{key}`", kind)
    yield declared_part("`cost` of a leaderboard", CostOptions)
    yield declared_part("`path` of a leaderboard", BoardPathOptions)


def board_schema() -> Schema:
    """Return the JSON schema of option files for `basicsr leaderboard`."""
    every = [option for kind in MODEL_KINDS.values() for option in options_of(kind)]
    # Null leaves what a base has, also of what a model of this kind needs.
    model = section_schema([replace(each, default=None) if each.required else each for each in every])
    return section_schema(
        options_of(BoardOptions),
        protocol={"enum": sorted(PROTOCOLS)},
        models={"type": ["object", "null"], "additionalProperties": model},
        test_sets={"type": "object", "additionalProperties": section_schema(options_of(TestSetOptions))},
        cost=section_schema(options_of(CostOptions)),
        path=section_schema(options_of(BoardPathOptions)),
    )
