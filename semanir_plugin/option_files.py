"""Option files in BasicSR's format: read, with the line that each option stands on, and overridden.

Nothing in a file or on the command line is ever run: BasicSR's own YAML loader constructs arbitrary Python objects, and
its `--force_yml` is executed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from semanir_plugin.errors import UserError

__all__ = ["OptionFile", "apply_overrides", "copy_options", "load_options", "read_network"]

Keys = tuple[str, ...]

_MAX_NODES = 100_000
_MAX_BYTES = 256 << 10  # some seconds of parsing; our own files have 5 KB
_MAX_INTEGER = 2**63  # which nothing takes, and which cannot always be printed


@dataclass(frozen=True)
class OptionFile:
    """Content of an option file, and the place of each of its values.

    Attributes:
        path: The file, as the user named it.
        data: Its content: nested dicts, lists and scalars, none of them shared.
        places: For each key path, `file:line` or the command line flag that set it.
    """

    path: Path
    data: dict[str, Any]
    places: dict[Keys, str] = field(default_factory=dict)

    def where(self, keys: Keys) -> str:
        """Return the place of a key path, or of the nearest enclosing section that stands in the file."""
        ends = range(len(keys), 0, -1)
        return next((self.places[keys[:end]] for end in ends if keys[:end] in self.places), str(self.path))


class _OptionLoader(yaml.SafeLoader):
    """YAML's safe loader, plus YAML 1.2's floats: `1e-4` is a number, not a string."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, AttributeError) as error:  # a tag that does not fit its text, as in `!!float fast`
            raise _marked(f"'{node.value}' is not a valid {node.tag.rpartition(':')[2]}", node) from error
        if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
            raise _marked("an integer of more than 64 bits, correct it", node)
        return value

    def refuse(self, node: yaml.Node) -> Any:
        """Stand in for the constructor of any tag that is not plain data, such as `!!python/object/apply`."""
        raise _marked(f"the tag '{node.tag}' is not plain data, remove it", node)


_OptionLoader.add_constructor(None, _OptionLoader.refuse)
_OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_options(path: str | os.PathLike[str]) -> OptionFile:
    """Read an option file.

    Raises:
        UserError: The file cannot be read, is not valid YAML, repeats a key, or asks for anything but plain data.
    """
    path = Path(path)
    try:
        text = _read(path)
    except OSError as error:
        raise UserError(f"{path}: cannot read the option file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file; -opt takes a YAML file") from error
    data, lines = _parse(text, lambda line: f"{path}:{line}")
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: the top level must be a mapping of options, such as 'name: my_experiment'")
    return OptionFile(path, data, {keys: f"{path}:{line}" for keys, line in lines.items()})


def apply_overrides(option_file: OptionFile, entries: Iterable[str]) -> OptionFile:
    """Return the options with entries of the form `section:key=value` set, as BasicSR's `--force_yml` takes them.

    A value is read as it would be in the file, so it keeps its type; `none` is also None. A key need not exist yet.

    Raises:
        UserError: An entry is malformed, or descends into something that is not a section.
    """
    data, places = copy_options(option_file.data), dict(option_file.places)
    for entry in entries:
        place = f"--force_yml {entry}"
        keys, value = _parse_override(entry, place)
        section = data
        for key in keys[:-1]:
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                raise UserError(f"{place}: '{key}' is a value, not a section, in {option_file.where(keys)}")
        section[keys[-1]] = value
        places = {known: place for known, place in places.items() if known[: len(keys)] != keys}
        places[keys] = "--force_yml"
    return replace(option_file, data=data, places=places)


def read_network(path: str, force_yml: Sequence[str] = ()) -> dict[str, Any]:
    """Return the `network_g` of an option file, of which nothing else need be right.

    Raises:
        UserError: The file cannot be read, or has none.
    """
    network = apply_overrides(load_options(path), force_yml).data.get("network_g")
    if not isinstance(network, dict) or not isinstance(network.get("type"), str):
        raise UserError(f"{path}: has no network_g with a type; name the option file of a network")
    return network


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path}: has more than {_MAX_BYTES >> 10} KiB, which no option file needs; shorten it")
    return content.decode("utf-8-sig")


def _marked(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _parse(text: str, locate: Callable[[int], str]) -> tuple[Any, dict[Keys, int]]:
    """Parse YAML and map every key path to its line; `locate` turns a line number into the place an error names."""
    try:
        loader = _OptionLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_walk(node, [_MAX_NODES]))
        return copy_options(loader.construct_document(node)), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{locate(line)}: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        raise UserError(f"{locate(text[: error.position].count(chr(10)) + 1)}: {error.reason}") from error
    except RecursionError as error:
        raise UserError(f"{locate(1)}: nested too deeply, or an alias that contains itself") from error


def _walk(node: yaml.Node, budget: list[int], keys: Keys = ()) -> Iterator[tuple[Keys, int]]:
    """Yield every key path with its line, entering aliases anew each time so that an alias bomb exhausts the budget."""
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


def _parse_override(entry: str, place: str) -> tuple[Keys, Any]:
    path, equals, text = entry.partition("=")
    keys = tuple(key.strip() for key in path.split(":"))
    if not equals or not all(keys):
        raise UserError(f"{place}: write section:key=value, for example train:ema_decay=0.999")
    value, _ = _parse(text, lambda _: place)
    return keys, None if isinstance(value, str) and value.lower() == "none" else value


def copy_options(value: Any) -> Any:
    """Copy nested options, so that sections which were aliases of one another become independent."""
    if isinstance(value, dict):
        return {key: copy_options(child) for key, child in value.items()}
    return [copy_options(child) for child in value] if isinstance(value, list) else value
