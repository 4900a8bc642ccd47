"""Option file of a leaderboard, checked before any work as those of training and testing are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from semanir_plugin.basicsr_host.engine.schema import Section, check_network
from semanir_plugin.basicsr_host.scoring import PROTOCOLS, Protocol
from semanir_plugin.errors import UserError, describe_unknown
from semanir_plugin.evaluation.leaderboard.contestants import (
    ClassicalOptions,
    FolderOptions,
    NetworkOptions,
    WeightsOptions,
)
from semanir_plugin.evaluation.leaderboard.model_cost import CostOptions
from semanir_plugin.evaluation.leaderboard.published import published_rows
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet, TestSetOptions, slugify
from semanir_plugin.option_files import OptionFile
from semanir_plugin.path_safety import can_name_file

__all__ = ["Board", "read_board"]

T = TypeVar("T")

_KEYS: dict[str, Any] = {
    **{"name": str, "title": str | None, "task": str, "protocol": str, "scale": int | None},
    **{"num_gpu": Any, "manual_seed": int | None, "save_images": bool, "published": bool | Sequence[str]},
    **dict.fromkeys(("models", "test_sets", "cost", "path"), Any),
}
_KINDS: dict[str, type] = {
    "network_g": NetworkOptions,
    "weights": WeightsOptions,
    "images": FolderOptions,
    "classical": ClassicalOptions,
}
_TASK_OF_CLASSICAL = {"bicubic": "sr", "malvar": "demosaicking"}


@dataclass(frozen=True, kw_only=True)
class Board:
    """A leaderboard, read and checked.

    Attributes:
        name: Of its folder.
        title: For people.
        protocol: How is scored.
        scale: Factor between the sizes of ground truth and input.
        num_gpu: As in the file.
        manual_seed: Of networks without weights.
        models: Options by name.
        test_sets: Images that are there, and of the right sizes.
        published: Rows that were published.
        cost: How cost is measured; None: it is not.
        save_images: Whether result images are kept.
        folder: Where results go.
    """

    name: str
    title: str
    protocol: Protocol
    scale: int
    num_gpu: Any
    manual_seed: int
    models: Mapping[str, NetworkOptions | FolderOptions | ClassicalOptions]
    test_sets: Sequence[TestSet]
    published: Sequence[dict[str, Any]]
    cost: CostOptions | None
    save_images: bool
    folder: Path


def read_board(file: OptionFile, root: Path) -> Board:
    """Check an option file, and the images of its test sets.

    Args:
        file: As it was read, with its overrides.
        root: Folder under which `results` is made, unless the file says otherwise.

    Raises:
        UserError: A key, a value or a test set is not right, or there is nothing to compare.
    """
    top = Section(file, (), file.data)
    top.check_keys(_KEYS.keys(), "a leaderboard")
    top.require("name", "task", "protocol", "test_sets")
    top.check_values(_KEYS)
    _check_name(top)
    protocol, scale = _read_protocol(top)
    options = {key: _read_test_set(section, protocol) for key, section in _entries(top, "test_sets").items()}
    models = {key: _read_model(section, protocol, scale) for key, section in _entries(top, "models").items()}
    test_sets = [TestSet(key, each, protocol, scale) for key, each in options.items()]
    if not test_sets:
        raise top.error("test_sets has no entry: add a test set", at="test_sets")
    for each in test_sets:
        _check_images(top.sub("test_sets"), each)
    published = _read_published(top, protocol, test_sets, scale)
    if not models and not published:
        raise top.error("models has no entry: add one, or set published: true", at="models")
    return Board(
        name=top.values["name"],
        title=top.values.get("title") or top.values["name"],
        protocol=protocol,
        scale=scale,
        num_gpu=top.values.get("num_gpu"),
        manual_seed=top.values.get("manual_seed") or 0,
        models=models,
        test_sets=test_sets,
        published=published,
        cost=_read_cost(top),
        save_images=top.values.get("save_images", True),
        folder=_read_folder(top, root),
    )


def _check_name(top: Section) -> None:
    name = top.values["name"]
    if not can_name_file(name):
        raise top.error(f"name must be a string that can name a folder, not {name!r}", at="name")
    top.count("manual_seed", 0)
    if top.values.get("num_gpu") != "auto":
        top.count("num_gpu", 0)


def _read_protocol(top: Section) -> tuple[Protocol, int]:
    name, task = top.values["protocol"], top.values["task"]
    fitting = {key: each for key, each in PROTOCOLS.items() if each.task == task}
    if not fitting:
        raise top.error(describe_unknown("task", task, {each.task for each in PROTOCOLS.values()}), at="task")
    if name not in fitting:
        raise top.error(describe_unknown("protocol", name, fitting, task), at="protocol")
    top.count("scale", 1)
    scale = int(top.values.get("scale") or 1)
    if problem := PROTOCOLS[name].problem_of_scale(scale):
        raise top.error(problem, at="scale" if scale > 1 else "protocol")
    return PROTOCOLS[name], scale


def _entries(top: Section, key: str) -> dict[str, Section]:
    """Return the entries of a section that are not null, each of a printable name that makes a folder of its own."""
    section, slugs = top.sub(key), dict[str, str]()
    entries = {name: section.sub(name) for name, value in section.values.items() if value is not None}
    for name in entries:
        if not name.isprintable():
            raise section.error(f"{name!r} cannot be printed: rename it", at=name)
        slug = slugify(name).lower()
        if slug in slugs:
            raise section.error(f"'{name}' and '{slugs[slug]}' would share a folder: rename one", at=name)
        slugs[slug] = name
    return entries


def _construct(section: Section, kind: type[T], owner: str) -> T:
    section.check_parameters(kind, owner=owner)
    return kind(**section.values)


def _read_test_set(section: Section, protocol: Protocol) -> TestSetOptions:
    options = _construct(section, TestSetOptions, "a test set")
    if options.lq is None and protocol.degrade is None:
        raise section.error(f"missing 'lq': the protocol {protocol.name} needs a folder of inputs")
    if options.lq is None and protocol.condition in ("sigma", "quality"):
        section.require(protocol.condition)
    for key in {"sigma", "quality"} - {protocol.condition}:
        if key in section.values:
            raise section.error(f"{key} means nothing to the protocol {protocol.name}: remove it", at=key)
    for key, least, most in (("sigma", 0, 255), ("quality", 1, 100)):
        value = getattr(options, key)
        if value is not None and not least <= value <= most:
            raise section.error(f"{key} must be from {least} to {most}, not {value}", at=key)
    return options


def _check_images(section: Section, test_set: TestSet) -> None:
    try:
        test_set.check()
    except UserError as error:
        raise section.error(f"{test_set.name}: {error}", at=test_set.name) from error


def _read_model(section: Section, protocol: Protocol, scale: int) -> NetworkOptions | FolderOptions | ClassicalOptions:
    kinds = [key for key in _KINDS if section.values.get(key) is not None]
    if len(kinds) != 1:
        given = f", not {' and '.join(kinds)}" if kinds else ""
        raise section.error(f"give one of {', '.join(_KINDS)}{given}")
    options: Any = _construct(section, _KINDS[kinds[0]], f"a model with {kinds[0]}")
    if isinstance(options, NetworkOptions):
        check_network(section.sub("network_g"), scale)
        _check_restoration(section)
    elif isinstance(options, WeightsOptions):
        _check_restoration(section)
        return _resolve_weights(section, options)
    elif isinstance(options, FolderOptions) and options.filename_tmpl.count("{}") != 1:
        raise section.error("filename_tmpl must have one {}, which is the name of the image", at="filename_tmpl")
    elif isinstance(options, ClassicalOptions):
        _check_classical(section, options.classical, protocol)
    return options


def _resolve_weights(section: Section, options: WeightsOptions) -> NetworkOptions:
    try:
        return options.resolve()
    except UserError as error:
        raise section.error(str(error), at="weights") from error


def _check_restoration(section: Section) -> None:
    for key in ("topk", "tile_overlap"):
        section.count(key, 1 if key == "topk" else 0)
    if section.values.get("tile") != "auto":
        section.count("tile", 1)
    if section.values.get("tile_overlap") is not None and section.values.get("tile") is None:
        raise section.error("tile_overlap needs tile: a number, or auto", at="tile_overlap")


def _check_classical(section: Section, method: str, protocol: Protocol) -> None:
    task = _TASK_OF_CLASSICAL.get(method, protocol.task)
    if task != protocol.task or (method == "identity" and protocol.condition == "scale"):
        raise section.error(f"{method} makes no result for {protocol.task}: remove it", at="classical")


def _read_published(top: Section, protocol: Protocol, test_sets: Sequence[TestSet], scale: int) -> list[dict[str, Any]]:
    wanted = top.values.get("published", False)
    if wanted is False:
        return []
    try:
        return published_rows(protocol, test_sets, scale, None if wanted is True else wanted)
    except UserError as error:
        raise top.error(f"published: {error}", at="published") from error


def _read_cost(top: Section) -> CostOptions | None:
    if top.values.get("cost") is None:
        return None
    section = top.sub("cost")
    options = _construct(section, CostOptions, "cost")
    if len(options.size) != 2 or min(options.size) < 1:
        raise section.error(f"size must be a height and a width in pixels, not {options.size}", at="size")
    section.count("runs", 1)
    section.count("warm_up", 0)
    return options


def _read_folder(top: Section, root: Path) -> Path:
    path = top.sub("path")
    path.check_keys({"results_root"})
    path.check_values({"results_root": str | None})
    parent = path.values.get("results_root")
    return (Path(parent).expanduser() if parent else root / "results") / top.values["name"]
