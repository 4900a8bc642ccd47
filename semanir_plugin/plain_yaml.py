"""YAML of plain data alone: read with the line that each value stands on, and written so that it reads back the same.

Nothing in a text is ever run: BasicSR's own YAML loader constructs arbitrary Python objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from semanir_plugin.errors import UserError

__all__ = ["Keys", "copy_options", "dump_yaml", "parse_yaml"]

Keys = tuple[str, ...]

_MAX_NODES = 100_000
_MAX_DEPTH = 100  # far from Python's own limit, which libraries raise
_MAX_INTEGER = 2**63  # which nothing takes, and which cannot always be printed
_YAML_1_2_FLOAT = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
_FLOAT_STARTS = list("-+.0123456789")

_CURES = {
    r"'\\t'": "indent by spaces, not tabs",
    "mapping values": (
        "put a value that has ': ' in quotes, a space behind each colon, and the keys of a section one below the other"
    ),
    "end of stream$": "close the quotes",
    "unknown escape": r"use single quotes, in which \ is no escape",
    "undefined alias|second occurrence|expected alphabetic": "put a value that begins with * or & in quotes",
    "another document": "leave one, and no line ---",
    r"expected ('[,>]'|the node)": "close the bracket, or put the whole value in quotes",
    "expected (<block end>|'<document start>')": (
        "put a value that begins with a quote or a bracket in quotes as a whole, and the keys of a section one below "
        "the other"
    ),
}
"""What may mend what PyYAML's parser says, which does not tell."""


class _PlainLoader(yaml.SafeLoader):
    """YAML's safe loader, plus YAML 1.2's floats: `1e-4` is a number, not a string."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        _check_depth(self._depth, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError, TypeError, OverflowError) as error:  # as of `!!float fast`
            raise _marked(f"{_shown(node)} is not a valid {node.tag.rpartition(':')[2]}", node) from error
        if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
            raise _marked("an integer of more than 64 bits, correct it", node)
        return value

    def refuse(self, node: yaml.Node) -> Any:
        """Stand in for the constructor of any tag that is not plain data, such as `!!python/object/apply`."""
        raise _marked(f"the tag '{node.tag}' is not plain data, remove it", node)


class _PlainDumper(yaml.SafeDumper):
    """Writes as option files are written: a list of scalars in one line, and null as `~`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal sections in full, without anchors."""
        return True

    def represent_list(self, data: Iterable[Any]) -> yaml.SequenceNode:
        """Represent a list of scalars in one line."""
        scalars = not any(isinstance(each, dict | list) for each in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=scalars)

    def represent_null(self, data: None) -> yaml.ScalarNode:
        """Represent null as BasicSR's files do."""
        return self.represent_scalar("tag:yaml.org,2002:null", "~")


_PlainLoader.add_constructor(None, _PlainLoader.refuse)
for _name in ("binary", "omap", "pairs", "set"):  # of which YAML makes what no option file has
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_name}", _PlainLoader.refuse)
_PlainDumper.add_representer(list, _PlainDumper.represent_list)
_PlainDumper.add_representer(type(None), _PlainDumper.represent_null)
for _each in (_PlainLoader, _PlainDumper):  # the dumper quotes a string that the loader would take for a number
    _each.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_1_2_FLOAT, _FLOAT_STARTS)


def parse_yaml(text: str, locate: Callable[[int], str]) -> tuple[Any, dict[Keys, int]]:
    """Parse YAML and map every key path to its line; `locate` turns a line number into the place an error names.

    Raises:
        UserError: The text is not valid YAML, repeats a key, or asks for anything but plain data.
    """
    try:
        loader = _PlainLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_walk(node, [_MAX_NODES]))
        return copy_options(loader.construct_document(node)), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{locate(line)}: {error.problem}{_cure(error)}") from error
    except yaml.reader.ReaderError as error:
        raise UserError(f"{locate(text[: error.position].count(chr(10)) + 1)}: {error.reason}") from error


def dump_yaml(data: Any) -> str:
    """Return YAML that `parse_yaml` reads as the same data, keys in their order."""
    text: str = yaml.dump(data, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def copy_options(value: Any) -> Any:
    """Copy nested options, so that sections which were aliases of one another become independent."""
    if isinstance(value, dict):
        return {key: copy_options(child) for key, child in value.items()}
    return [copy_options(child) for child in value] if isinstance(value, list) else value


def _cure(error: yaml.MarkedYAMLError) -> str:
    if type(error) is yaml.MarkedYAMLError:  # ours, which say it
        return ""
    found = (cure for problem, cure in _CURES.items() if re.search(problem, str(error.problem)))
    return f"; {next(found, 'put the value in quotes')}"


def _marked(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _shown(node: yaml.Node) -> str:
    return f"'{node.value}'" if isinstance(node, yaml.ScalarNode) else "a list or section"


def _check_depth(depth: int, mark: yaml.Mark) -> None:
    if depth > _MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem="nested too deeply, or an alias that contains itself", problem_mark=mark)


def _walk(node: yaml.Node, budget: list[int], keys: Keys = ()) -> Iterator[tuple[Keys, int]]:
    """Yield every key path with its line, entering aliases anew each time so that an alias bomb exhausts the budget."""
    _check_depth(len(keys), node.start_mark)
    budget[0] -= 1
    if budget[0] < 0:
        raise _marked(f"more than {_MAX_NODES} values once the aliases are expanded", node)
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _walk(child, budget, (*keys, "[]"))
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise _marked(f"the key '{key.value}' is not a string, quote it", key)
            if key.value in seen:
                raise _marked(f"duplicate key '{key.value}', remove one", key)
            seen.add(key.value)
            yield (*keys, key.value), key.start_mark.line + 1
            yield from _walk(value, budget, (*keys, key.value))
