"""Option file of a leaderboard, checked before any work as those of training and testing are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from basicsr.utils import get_root_logger

from semanir_plugin.basicsr_host.data.drawn_degradations import DEGRADATIONS, problems_of_degradations
from semanir_plugin.basicsr_host.engine.dataset_validation import check_entries
from semanir_plugin.basicsr_host.engine.declared import known_keys
from semanir_plugin.basicsr_host.engine.network_validation import check_network
from semanir_plugin.basicsr_host.scoring import PROTOCOLS, Protocol
from semanir_plugin.errors import UserError, describe_unknown
from semanir_plugin.evaluation.leaderboard.columns import AVERAGE
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
from semanir_plugin.schema.sections import Section
from semanir_plugin.schema.values import Count, FromZero

__all__ = ["MODEL_KINDS", "Board", "BoardOptions", "BoardPathOptions", "read_board"]

T = TypeVar("T")

MODEL_KINDS: dict[str, type] = {
    "network_g": NetworkOptions,
    "weights": WeightsOptions,
    "images": FolderOptions,
    "classical": ClassicalOptions,
}
_CONDITIONS = {"sigma": ("sigma",), "quality": ("quality",), "degradations": ("degradations", "seed")}
"""By condition of a protocol, the options of a test set that only this one reads."""
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
        average: Whether a column has the mean of the test sets that count.
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
    average: bool
    cost: CostOptions | None
    save_images: bool
    folder: Path


@dataclass(frozen=True, kw_only=True)
class BoardOptions:
    """Options at the top level of an option file for `basicsr leaderboard`.

    Attributes:
        name: Of the leaderboard, and of its folder.
        title: For people; by default the name.
        task: Restoration task, such as `sr` or `denoising`.
        protocol: How images are degraded and scored.
        scale: Factor between the sizes of ground truth and input, for super-resolution.
        imports: Packages of other people to import first; each must be installed, or named by `--import`.
        num_gpu: GPUs to use, one for each process; `auto`: all there are.
        manual_seed: Seed of networks without weights.
        models: A section for each row, under the name that the table shows.
        test_sets: A section for each column.
        published: Whether rows of published results are shown, or the list of those that are.
        average: Whether a last column has the mean of all test sets whose `averaged` is true, for rows that have these.
        cost: Section of what is measured of each network; null: nothing is.
        save_images: Whether restored images are kept, for the page.
        path: Section with `results_root`, the folder in which each leaderboard has a folder; `results` if not set.
    """

    name: str
    title: str | None = None
    task: str
    protocol: str
    scale: Count | None = None
    imports: Sequence[str] | None = None
    num_gpu: Literal["auto"] | FromZero = "auto"
    manual_seed: FromZero = 0
    models: Mapping[str, Any] | None = None
    test_sets: Mapping[str, Any]
    published: bool | Sequence[str] = False
    average: bool = False
    cost: Mapping[str, Any] | None = None
    save_images: bool = True
    path: Mapping[str, Any] | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the problems of the values."""
        if not can_name_file(self.name):
            yield "name", f"name must be a string that can name a folder, not {self.name!r}"


@dataclass(frozen=True, kw_only=True)
class BoardPathOptions:
    """Options of the section `path` of a leaderboard.

    Attributes:
        results_root: Folder in which each leaderboard has a folder; `results` if not set.
    """

    results_root: str | None = None


def read_board(file: OptionFile, root: Path) -> Board:
    """Check an option file, and the images of its test sets.

    Args:
        file: As it was read, with its overrides.
        root: Folder under which `results` is made, unless the file says otherwise.

    Raises:
        OptionError: A key, a value or a test set is not right, or there is nothing to compare.
    """
    top = Section.top(file)
    options = _read(top, BoardOptions, "a leaderboard")
    top.problems.raise_all()
    protocol, scale = _find_protocol(top, options)
    sets = {key: _read_test_set(each, protocol) for key, each in _entries(top, "test_sets").items()}
    models = {key: _read_model(each, protocol, scale) for key, each in _entries(top, "models").items()}
    test_sets = [TestSet(key, each, protocol, scale) for key, each in sets.items() if each is not None]
    if not sets:
        top.report("test_sets has no entry: add a test set", at="test_sets")
    if options.average and test_sets and not any(each.options.averaged for each in test_sets):
        top.report("average: true has nothing to average: every test set has averaged: false", at="average")
    if options.average and AVERAGE in sets:
        top.sub("test_sets").report(f"{AVERAGE} is the column of the mean: rename it", at=AVERAGE)
    for each in test_sets:
        _check_images(top.sub("test_sets"), each)
    published = _read_published(top, options.published, protocol, test_sets, scale)
    if not models and not published:
        top.report("models has no entry: add one, or set published: true", at="models")
    cost, path = _read_cost(top), _read(top.sub("path"), BoardPathOptions)
    top.problems.raise_all()
    for warning in top.problems.warnings:
        get_root_logger().warning(warning)
    return Board(
        name=options.name,
        title=options.title or options.name,
        protocol=protocol,
        scale=scale,
        num_gpu=options.num_gpu,
        manual_seed=int(options.manual_seed),
        models={key: each for key, each in models.items() if each is not None},
        test_sets=test_sets,
        published=published,
        average=options.average,
        cost=cost,
        save_images=options.save_images,
        folder=(Path(os.path.expanduser(path.results_root)) if path.results_root else root / "results") / options.name,
    )


def _read(section: Section, kind: type[T], owner: str | None = None) -> T:
    """Return the options of a section; None, reported, where they cannot be right."""
    section.check_keys(known_keys(kind), owner)
    return section.read(kind)  # type: ignore[return-value]


def _find_protocol(top: Section, options: BoardOptions) -> tuple[Protocol, int]:
    """Return the protocol and the scale.

    Raises:
        OptionError: The task has no such protocol, or the scale does not go with it.
    """
    name, task, scale = options.protocol, options.task, int(options.scale or 1)
    fitting = {key: each for key, each in PROTOCOLS.items() if each.task == task}
    if not fitting:
        top.report(describe_unknown("task", task, {each.task for each in PROTOCOLS.values()}), at="task")
    elif name not in fitting:
        top.report(describe_unknown("protocol", name, fitting, task), at="protocol")
    elif problem := PROTOCOLS[name].problem_of_scale(scale):
        top.report(problem, at="scale" if scale > 1 else "protocol")
    top.problems.raise_all()
    return PROTOCOLS[name], scale


def _entries(top: Section, key: str) -> dict[str, Section]:
    """Return the entries of a section that are not null, each of a printable name that makes a folder of its own."""
    section, slugs = top.sub(key), dict[str, str]()
    entries = section.subs()
    for name in entries:
        slug = slugify(name).lower()
        if not name.isprintable():
            section.report(f"{name!r} cannot be printed: rename it", at=name)
        elif slug in slugs:
            section.report(f"'{name}' and '{slugs[slug]}' would share a folder: rename one", at=name)
        slugs[slug] = name
    return entries


def _read_test_set(section: Section, protocol: Protocol) -> TestSetOptions | None:
    options = _read(section, TestSetOptions, "a test set")
    if options is None:
        return None
    if options.lq is None and protocol.degrade is None:
        section.report(f"missing 'lq': the protocol {protocol.name} needs a folder of inputs")
        return None
    for key in sorted(_CONDITIONS.keys() - {protocol.condition}):
        for each in _CONDITIONS[key]:
            if section.values.get(each) is not None:
                section.report(f"{each} means nothing to the protocol {protocol.name}: remove it", at=each)
    needs_level = options.lq is None and protocol.condition in _CONDITIONS
    if needs_level and not section.require(str(protocol.condition)):
        return None
    return options if options.degradations is None or _check_degradations(section, options) else None


def _check_degradations(section: Section, options: TestSetOptions) -> bool:
    """Return whether the degradation of a test set is right; report what is wrong as a dataset's section has it."""
    if options.lq is not None:
        section.report("lq and degradations contradict each other: give one of them", at="degradations")
    if not check_entries(section.sub("degradations"), DEGRADATIONS, "a test set"):
        return False
    problems = list(problems_of_degradations(options.degradations or {}, training=False))
    for problem in problems:
        section.report(problem, at="degradations")
    return not problems


def _check_images(section: Section, test_set: TestSet) -> None:
    try:
        test_set.check()
    except UserError as error:
        section.report(f"{test_set.name}: {error}", at=test_set.name)


def _read_model(
    section: Section, protocol: Protocol, scale: int
) -> NetworkOptions | FolderOptions | ClassicalOptions | None:
    kinds = [key for key in MODEL_KINDS if section.values.get(key) is not None]
    if len(kinds) != 1:
        given = f", not {' and '.join(kinds)}" if kinds else ""
        section.report(f"give one of {', '.join(MODEL_KINDS)}{given}")
        return None
    for other in MODEL_KINDS.keys() - kinds:  # null, where a base has a model of another kind
        section.values.pop(other, None)
    options: Any = _read(section, MODEL_KINDS[kinds[0]], f"a model with {kinds[0]}")
    if isinstance(options, NetworkOptions):
        check_network(section.sub("network_g"), scale)
    elif isinstance(options, WeightsOptions):
        return _resolve_weights(section, options)
    elif isinstance(options, FolderOptions) and options.filename_tmpl.count("{}") != 1:
        section.report("filename_tmpl must have one {}, which is the name of the image", at="filename_tmpl")
    elif isinstance(options, ClassicalOptions):
        _check_classical(section, options.classical, protocol)
    model: NetworkOptions | FolderOptions | ClassicalOptions | None = options
    return model


def _resolve_weights(section: Section, options: WeightsOptions) -> NetworkOptions | None:
    with section.reporting(at="weights"):
        return options.resolve()
    return None


def _check_classical(section: Section, method: str, protocol: Protocol) -> None:
    task = _TASK_OF_CLASSICAL.get(method, protocol.task)
    if task != protocol.task or (method == "identity" and protocol.condition == "scale"):
        section.report(f"{method} makes no result for {protocol.task}: remove it", at="classical")


def _read_published(
    top: Section, wanted: bool | Sequence[str], protocol: Protocol, test_sets: Sequence[TestSet], scale: int
) -> list[dict[str, Any]]:
    if wanted is False:
        return []
    try:
        return published_rows(protocol, test_sets, scale, None if wanted is True else wanted)
    except UserError as error:
        top.report(f"published: {error}", at="published")
        return []


def _read_cost(top: Section) -> CostOptions | None:
    return None if top.values.get("cost") is None else _read(top.sub("cost"), CostOptions)
