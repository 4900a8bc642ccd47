"""JSON schemas of declarations, by which editors complete and check option files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from semanir_plugin.schema.declarations import Option
from semanir_plugin.schema.values import Hint, Range

__all__ = ["Schema", "by_type", "schema_of", "section_schema"]

Schema = dict[str, Any]

_NAMES: dict[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}
_LIMITS = {"least": "minimum", "above": "exclusiveMinimum", "most": "maximum", "below": "exclusiveMaximum"}


def schema_of(hint: Hint) -> Schema:
    """Return the JSON schema of a type hint; that of any value for a hint of another kind."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [mark for mark in arguments[1:] if isinstance(mark, Range)]
        return {**schema_of(arguments[0]), **{key: limit for each in limits for key, limit in _limits(each)}}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin in (Sequence, list):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is Mapping:
        return {"type": "object"}
    return {"type": _NAMES[hint]} if hint in _NAMES else {}


def _limits(limits: Range) -> list[tuple[str, float]]:
    return [(name, getattr(limits, key)) for key, name in _LIMITS.items() if getattr(limits, key) is not None]


def section_schema(options: Sequence[Option], *, nullable: bool = True, **more: Schema) -> Schema:
    """Return the JSON schema of a section, in which nothing is required: a base may have it.

    Args:
        options: What it takes.
        nullable: Whether null stands for the default.
        more: Schemas of keys that are sections themselves, or otherwise more than their type.
    """
    properties = {each.name: _describe(each, nullable=nullable) for each in options}
    for key, content in more.items():
        meaning = {"description": properties[key]["description"]} if "description" in properties[key] else {}
        properties[key] = {**meaning, **content}
    return {"type": ["object", "null"] if nullable else "object", "properties": properties}


def _describe(option: Option, *, nullable: bool) -> Schema:
    schema = schema_of(option.hint)
    if nullable and schema and not option.required:
        schema = {"anyOf": [*schema.get("anyOf", [schema]), {"type": "null"}]}
    default = {} if option.required or option.default is None else {"default": option.default}
    return {**({"description": option.meaning} if option.meaning else {}), **schema, **default}


def by_type(sections: Mapping[str, Schema], *, known: Sequence[str] = ()) -> Schema:
    """Return the JSON schema of a section whose `type` says what else it takes.

    Args:
        sections: Schemas by type.
        known: Other types, whose options are not known.
    """
    cases = [
        {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": schema}
        for name, schema in sections.items()
    ]
    kinds = {"anyOf": [{"enum": sorted({*sections, *known})}, {"type": "string"}]}
    return {"type": ["object", "null"], "properties": {"type": kinds}, "allOf": cases}
