"""Options found in source code, of classes that declare none: the keys that they look up."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["option_lookups", "uses_extra_keywords"]

Keys = tuple[str, ...]
Names = dict[str, Keys]  # local variables that hold a section, by name


@cache
def option_lookups(cls: type) -> frozenset[Keys]:
    """Return the paths of constant keys that a class and its bases look up in their options, found in their source.

    `opt` and `self.opt` are the options, a name such as `train_opt` is their section `train`, and so is a variable that
    it was assigned to; `x["key"]`, `x.get("key")`, `x.pop("key")` and `"key" in x` look up. So
    `train_opt["optim_g"].pop("type")` gives `("train", "optim_g")` and `("train", "optim_g", "type")`.
    """
    found = set()
    for base in cls.__mro__:
        tree = _parse_source(base)
        names = _assigned(tree)
        found |= {_lookup(node, names) for node in ast.walk(tree)}
    return frozenset(path for path in found if path)


def _assigned(tree: ast.AST) -> Names:
    """Return the names that sections are assigned to."""
    names: Names = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)]):
                keys = _lookup(node.value, names)
                if keys is not None and not name.endswith("opt"):
                    names[name] = keys
    return names


def _lookup(node: ast.AST, names: Names) -> Keys | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            known = () if name == "opt" else (name[:-4],) if name.endswith("_opt") else None
            return names.get(name, known)
        case ast.Subscript(value=owner, slice=ast.Constant(value=str(key))):
            pass
        case ast.Call(func=ast.Attribute(value=owner, attr="get" | "pop"), args=[ast.Constant(value=str(key)), *_]):
            pass
        case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[owner]):
            pass
        case _:
            return None
    parent = _lookup(owner, names)
    return None if parent is None else (*parent, key)


def uses_extra_keywords(target: Callable[..., Any]) -> bool:
    """Return whether a constructor or function reads the `**kwargs` it takes; several of BasicSR's ignore them."""
    parameters = inspect.signature(target).parameters.values()
    name = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
    body = _parse_source(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(body))


@cache
def _parse_source(obj: Any) -> ast.AST:
    """Parse the source of a class or function; what has none, such as a built-in, counts as empty."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(obj)))
    except (OSError, TypeError):
        return ast.Module(body=[], type_ignores=[])
