"""Option files in BasicSR's format: read, on top of their `base`, with the line of each option, and overridden.

Nothing in a file or on the command line is ever run: BasicSR's own YAML loader constructs arbitrary Python objects, and
its `--force_yml` is executed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from semanir_plugin.errors import UserError, near_match
from semanir_plugin.extensions import import_for
from semanir_plugin.foreign_files import HEAD, foreign_kind
from semanir_plugin.plain_yaml import Keys, copy_options, dump_yaml, parse_yaml
from semanir_plugin.shipped_recipes import Recipe, find_recipe, shipped_recipes

__all__ = [
    "FILE_KEYS",
    "OVERRIDDEN",
    "OptionFile",
    "apply_overrides",
    "copy_options",
    "fill_placeholders",
    "load_options",
    "read_network",
    "read_option_file",
    "self_contained_text",
]

FILE_KEYS = ("dataroot", "meta_info", "lq_cache")
"""Prefixes of the dataset options that are paths."""
OVERRIDDEN = "--force_yml"
"""The place of what the command line has set."""

_logger = logging.getLogger(__name__)

_MAX_BYTES = 256 << 10  # some seconds of parsing; our own files have 5 KB
_MAX_BASES = 8
_PLACEHOLDER = re.compile(r"\{(sigma|quality|scale)\}")


@dataclass(frozen=True)
class OptionFile:
    """Content of an option file, and the place of each of its values.

    Attributes:
        path: The file, as the user named it.
        data: Its content, on top of that of its base: nested dicts, lists and scalars, none of them shared.
        places: For each key path, `file:line` or the command line flag that set it.
        text: What the file itself says; empty where it was not read from one.
        sources: The files that the content is from: this one, its base, and so on.
        recipe: Which of the shipped files it is, where there is no file of that name.
        warnings: What its user is told before it is obeyed.
    """

    path: Path
    data: dict[str, Any]
    places: dict[Keys, str] = field(default_factory=dict)
    text: str = ""
    sources: tuple[Path, ...] = ()
    recipe: str | None = None
    warnings: tuple[str, ...] = ()

    def where(self, keys: Keys) -> str:
        """Return the place of a key path, or of the nearest enclosing section that stands in the file."""
        ends = range(len(keys), 0, -1)
        return next((self.places[keys[:end]] for end in ends if keys[:end] in self.places), str(self.path))


def load_options(path: str | os.PathLike[str]) -> OptionFile:
    """Read an option file, on top of the one that its `base` names, or a shipped one where there is no such file.

    A `base` is a path relative to the file, or the name of a shipped option file; it may have a base itself. Sections
    are merged, key by key; lists and single values replace those of the base, and so does a section whose `type` is
    another one, since its options are not those of the base's.

    Raises:
        UserError: A file cannot be read, is not valid YAML, repeats a key, or asks for anything but plain data; or the
            bases lead back to themselves.
    """
    path = Path(path)
    recipe = None if os.path.lexists(path) else find_recipe(path)
    if recipe is None:
        return _load(Recipe(path.name, path), ())
    return replace(_load(recipe, ()), path=path.with_name(recipe.name), recipe=str(recipe))


def read_option_file(path: str | os.PathLike[str], force_yml: Iterable[str] = ()) -> OptionFile:
    """Read an option file as a command does: with its base, its overrides, and the placeholders of names filled in.

    Raises:
        UserError: As `load_options`, `apply_overrides` and `fill_placeholders`.
    """
    return fill_placeholders(apply_overrides(load_options(path), force_yml))


def apply_overrides(option_file: OptionFile, entries: Iterable[str]) -> OptionFile:
    """Return the options with entries of the form `section:key=value` set, as BasicSR's `--force_yml` takes them.

    A value is read as it would be in the file, so it keeps its type; `none` is also None. A key need not exist yet.

    Raises:
        UserError: An entry is malformed, or descends into something that is not a section.
    """
    data, places = copy_options(option_file.data), dict(option_file.places)
    for entry in entries:
        place = f"{OVERRIDDEN} {entry}"
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
        places[keys] = OVERRIDDEN
    return replace(option_file, data=data, places=places)


def fill_placeholders(option_file: OptionFile) -> OptionFile:
    """Return options with `{sigma}`, `{quality}` and `{scale}` in names and paths replaced by the top level's values.

    Names and paths are `name`, all of `path`, and the names, folders and lists of files of the datasets.

    Raises:
        UserError: There is no value, or it is not one number.
    """

    def fill(text: str, keys: Keys) -> str:
        return _PLACEHOLDER.sub(lambda match: _fill(match, option_file, keys), text)

    return replace(option_file, data={key: _map_names(value, fill, (key,)) for key, value in option_file.data.items()})


def read_network(path: str, force_yml: Sequence[str] = ()) -> dict[str, Any]:
    """Return the `network_g` of an option file, of which nothing else need be right, and do the file's `imports`.

    Raises:
        UserError: The file cannot be read, has none, or imports what it may not.
    """
    file = apply_overrides(load_options(path), force_yml)
    for warning in import_for(file):
        _logger.warning(warning)
    network = file.data.get("network_g")
    if not isinstance(network, dict) or not isinstance(network.get("type"), str):
        raise UserError(f"{path}: has no network_g with a type; name the option file of a network")
    return network


def self_contained_text(option_file: OptionFile) -> str:
    """Return the text of an option file that needs no other: its own where that says all, else what was merged."""
    if parse_yaml(option_file.text, str)[0] == option_file.data:
        return option_file.text
    head = re.match(r"(#.*\n)*", option_file.text)
    names = ", on top of ".join(path.name for path in option_file.sources)
    return f"{head and head[0]}#\n# Written out in full, from {names}.\n{_dump_sections(option_file.data)}"


def _load(recipe: Recipe, above: tuple[Path, ...]) -> OptionFile:
    """Read a file on top of its bases; `above` are the files that it is a base of."""
    file = _read_alone(recipe.path)
    base = file.data.pop("base", None)
    if base is not None:
        file = _merge(_load(_find_base(file, base, (*above, recipe.path)), (*above, recipe.path)), file)
    places = file.places | {(key,): str(recipe.path) for key in recipe.values}
    return replace(file, data=file.data | dict(recipe.values), places=places)


def _read_alone(path: Path) -> OptionFile:
    """Read one file, without its base."""
    try:
        text = _read(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: cannot read the option file: {error.strerror}{_hint(path)}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read the option file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8; -opt takes a YAML file, saved so") from error
    _check_kind(text, path)
    data, lines = parse_yaml(text, lambda line: f"{path}:{line}")
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: the top level must be a mapping of options, such as 'name: my_experiment'")
    return OptionFile(path, data, {keys: f"{path}:{line}" for keys, line in lines.items()}, text, (path,))


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path}: has more than {_MAX_BYTES >> 10} KiB, which no option file needs; shorten it")
    return content.decode("utf-8-sig")


def _check_kind(text: str, path: Path) -> None:
    told = foreign_kind(text[:HEAD].encode())
    if text and told and not text.lstrip().startswith("{"):  # JSON is YAML, too
        raise UserError(f"{path}: {told}")


def _hint(path: Path) -> str:
    near = near_match(path.name, shipped_recipes())
    return f"; did you mean the shipped '{near}'?" if near else ""


def _find_base(file: OptionFile, base: Any, above: tuple[Path, ...]) -> Recipe:
    """Return what a file's `base` is, found from the file's folder or shipped: an ordinary file, not one of `above`."""
    where = f"{file.where(('base',))}: base"
    if not isinstance(base, str) or not base.isprintable() or Path(base).suffix != ".yml" or Path(base).is_absolute():
        raise UserError(
            f"{where} must be the name of a .yml file, seen from this file, or of a shipped one, not {base!r}"
        )
    path = file.path.parent / base
    recipe = None if os.path.lexists(path) else find_recipe(base)
    if recipe is not None:
        path = recipe.path
    if not os.path.isfile(path):  # a pipe would be waited for, and a device has no end
        raise UserError(f"{where}: {path}: no such file{_hint(path)}")
    if any(path.samefile(each) for each in above):
        raise UserError(f"{where} {base!r} leads back to {path}; name another file")
    if len(above) == _MAX_BASES:
        raise UserError(f"{where}: more than {_MAX_BASES} files, one on top of the other; merge some of them")
    return recipe or Recipe(path.name, path)


def _merge(base: OptionFile, file: OptionFile) -> OptionFile:
    """Return a file on top of its base."""
    replaced: set[Keys] = set()
    data = _merge_sections(base.data, file.data, replaced)
    kept = {keys: place for keys, place in base.places.items() if not _lies_in(keys, replaced)}
    return replace(file, data=data, places=kept | file.places, sources=file.sources + base.sources)


def _merge_sections(base: dict[str, Any], top: dict[str, Any], replaced: set[Keys], keys: Keys = ()) -> dict[str, Any]:
    """Merge a section into that of the base; `replaced` takes the key paths of what the base has no part in."""
    merged = dict(base)
    for key, value in top.items():
        below, path = base.get(key), (*keys, key)
        if isinstance(value, dict) and isinstance(below, dict) and not _changes_type(value, below):
            merged[key] = _merge_sections(below, value, replaced, path)
        else:
            merged[key] = value
            replaced.add(path)
    return merged


def _changes_type(section: dict[str, Any], below: dict[str, Any]) -> bool:
    return "type" in section and section["type"] != below.get("type")


def _lies_in(keys: Keys, sections: set[Keys]) -> bool:
    return any(keys[:end] in sections for end in range(1, len(keys) + 1))


def _map_names(value: Any, fill: Callable[[str, Keys], str], keys: Keys) -> Any:
    """Copy options, with `fill` applied to the strings that are names or paths."""
    if isinstance(value, dict):
        return {key: _map_names(child, fill, (*keys, key)) for key, child in value.items()}
    if isinstance(value, list) and _is_name(keys):
        return [_map_names(each, fill, keys) for each in value]
    return fill(value, keys) if isinstance(value, str) and _is_name(keys) else copy_options(value)


def _is_name(keys: Keys) -> bool:
    in_dataset = keys[0] == "datasets" and (keys[-1] == "name" or keys[-1].startswith(FILE_KEYS))
    return keys == ("name",) or keys[0] == "path" or in_dataset


def _fill(placeholder: re.Match[str], file: OptionFile, keys: Keys) -> str:
    value = file.data.get(placeholder[1])
    if isinstance(value, list):
        where, name = file.where(keys), ":".join(keys)
        raise UserError(f"{where}: {name}: {placeholder[0]} cannot stand for the range {value}; write a name instead")
    if value is None:
        where, name = file.where(keys), ":".join(keys)
        raise UserError(f"{where}: {name}: {placeholder[0]} stands for the top level's {placeholder[1]}: set it")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return placeholder[0]  # which the value's own check refuses
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parse_override(entry: str, place: str) -> tuple[Keys, Any]:
    path, equals, text = entry.partition("=")
    keys = tuple(key.strip() for key in path.split(":"))
    if not equals or not all(keys):
        raise UserError(f"{place}: write section:key=value, for example train:ema_decay=0.999")
    value, _ = parse_yaml(text, lambda _: place)
    return keys, None if isinstance(value, str) and value.lower() == "none" else value


def _dump_sections(data: dict[str, Any]) -> str:
    """Return YAML of a file, with a line left free above each section."""
    return "".join(("\n" if isinstance(value, dict) else "") + dump_yaml({key: value}) for key, value in data.items())
