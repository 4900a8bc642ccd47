"""Option schema: validation of an option file before any work. Every key must be one that something reads.

There is no second list of options to keep in step. What a network, loss, metric, optimiser or scheduler takes is its
signature; what a model or dataset takes is what its source looks up on `opt`, plus what it declares in `OPTION_KEYS`.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from basicsr.utils.file_client import FileClient
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from semanir_plugin.archs.mixed_arch import MixedArch
from semanir_plugin.basicsr_host.compat.repairs import known_optimizers, known_schedulers
from semanir_plugin.basicsr_host.data.dataset_options import DatasetOptions, pick_options
from semanir_plugin.basicsr_host.engine.options import COUNT_LISTS, COUNTS, FILE_KEYS
from semanir_plugin.basicsr_host.engine.phases import PHASE_LISTS
from semanir_plugin.basicsr_host.engine.values import conforms, describe_hint, describe_value, parameter_hints
from semanir_plugin.basicsr_host.scoring import PROTOCOLS, dataset_problems, protocol_problems, split_metrics
from semanir_plugin.errors import UserError, describe_unknown
from semanir_plugin.mixing import MixEntry
from semanir_plugin.option_files import OptionFile
from semanir_plugin.path_safety import can_name_file

__all__ = ["Section", "check_network", "option_lookups", "validate_options"]

Keys = tuple[str, ...]
Table = Iterable[tuple[str, Any]]  # what iterating one of BasicSR's registries gives

_TOP_KEYS = {
    *("name", "model_type", "scale", "num_gpu", "manual_seed", "deterministic"),
    *("dist_params", "find_unused_parameters", "datasets", "path", "train", "val", "logger"),
}
_DATASET_KEYS = {
    *("name", "type", "phase", "scale", "io_backend", "use_shuffle", "dataset_enlarge_ratio"),
    *("batch_size_per_gpu", "num_worker_per_gpu", "pin_memory", "persistent_workers"),
    *("prefetch_mode", "num_prefetch_queue"),
}
_VALUES: dict[str, dict[str, Any]] = {  # laid out as COUNTS
    "": {"find_unused_parameters": bool, "deterministic": bool},
    "datasets": {
        "name": str | None,
        "prefetch_mode": Literal["cpu", "cuda"] | None,
        **dict.fromkeys(("use_hflip", "use_rot", "pin_memory", "persistent_workers"), bool),
    },
    "train": {
        "amp": Literal["bf16", "fp16", False] | None,
        "grad_clip": float | None,
        "mixup": float | None,
        "ema_decay": float | None,
        "zero_redundancy": bool,
        "channels_last": bool,
    },
    "val": {"save_img": bool, "pbar": bool, "self_ensemble": bool, "tile": Literal["auto"] | int | None},
    "logger": {"use_tb_logger": bool, "safetensors": bool},
}
_PATH_VALUES: dict[str, Any] = {
    **dict.fromkeys(("experiments_root", "results_root", "resume_state"), str | None),
    "ignore_resume_networks": Sequence[str],
}
_PATH_VALUES_BY_NETWORK = {"pretrain_network": str | None, "param_key": str | None, "strict_load": bool}
_REQUIRED_BY_DATASET = {
    "PairedImageDataset": ("dataroot_gt", "dataroot_lq"),
    "SingleImageDataset": ("dataroot_lq",),
    "CleanImageDataset": ("dataroot_gt",),
}
_REQUIRED_TO_TRAIN = dict.fromkeys(
    ("PairedImageDataset", "CleanImageDataset", "MixedPairedDataset"), ("gt_size", "use_hflip", "use_rot")
)
_TEMPLATE = re.compile(r"[^{}/]*\{\}[^{}/]*")
_SINGLE = {single for single in PHASE_LISTS.values() if single}
_LONGEST_TIMEOUT = 7 * 24 * 60
_FILLED_KEYS = {  # looked up by models, but set when the options are resolved
    *("is_train", "auto_resume", "root_path", "dist", "rank", "world_size"),
    *("models", "training_states", "log", "visualization"),
}


def validate_options(option_file: OptionFile, *, is_train: bool) -> None:
    """Check every section of an option file against what will read it.

    Raises:
        UserError: A key is unknown or missing, a registered name is unknown, or a value cannot be right. The message
            gives the line, the section, a near match and the known names.
    """
    top = Section(option_file, (), option_file.data)
    model = top.look_up("model", MODEL_REGISTRY, key="model_type")
    known = _ModelKeys(model)
    networks = [key for key in top.values if key.startswith("network_")]
    top.check_keys(_TOP_KEYS | known.of(), owner=model.__name__)
    top.require("name", "datasets", "network_g")
    _check_name(top)
    _check_top_values(top)
    for key in networks:
        check_network(top.sub(key), top.values.get("scale"))
    _check_datasets(top, is_train=is_train)
    _check_path(top, networks, known.of("path"))
    _check_train(top, known.of("train"), is_train=is_train)
    if is_train:
        _check_accumulation(top)
    _check_val(top, known.of("val"), is_train=is_train)
    _check_logger(top, is_train=is_train)


def option_lookups(cls: type) -> frozenset[Keys]:
    """Return the paths of constant keys that a class and its bases look up in their options, found in their source.

    `opt` and `self.opt` are the options, a name such as `train_opt` is their section `train`; `x["key"]`,
    `x.get("key")` and `"key" in x` look up. So `train_opt["optim_g"].pop("type")` gives `("train", "optim_g")` and
    `("train", "optim_g", "type")`.
    """
    paths = (_lookup(node) for base in cls.__mro__ for node in ast.walk(_parse_source(base)))
    return frozenset(path for path in paths if path)


def _lookup(node: ast.AST) -> Keys | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            return () if name == "opt" else (name[:-4],) if name.endswith("_opt") else None
        case ast.Subscript(value=owner, slice=ast.Constant(value=str(key))):
            pass
        case ast.Call(func=ast.Attribute(value=owner, attr="get" | "pop"), args=[ast.Constant(value=str(key)), *_]):
            pass
        case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[owner]):
            pass
        case _:
            return None
    parent = _lookup(owner)
    return None if parent is None else (*parent, key)


def _parse_source(obj: Any) -> ast.AST:
    """Parse the source of a class or function; what has none, such as a built-in, counts as empty."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(obj)))
    except (OSError, TypeError):
        return ast.Module(body=[], type_ignores=[])


@dataclass(frozen=True)
class Section:
    """A mapping of the option file, with its key path for messages."""

    file: OptionFile
    keys: Keys
    values: dict[str, Any]

    def error(self, message: str, at: str | None = None) -> UserError:
        """Return the error for this section, placed at the line of one of its keys where `at` is given."""
        where = self.file.where(self.keys if at is None else (*self.keys, at))
        return UserError(": ".join(filter(None, [where, ":".join(self.keys), message])))

    def sub(self, key: str) -> Section:
        """Return the section under a key, empty where the key is missing or null."""
        value = self.values.get(key)
        if not isinstance(value, dict | None):
            raise self.error(f"{key} must be a section of its own, not {value!r}", at=key)
        return Section(self.file, (*self.keys, key), value or {})

    def check_keys(self, known: Collection[str], owner: str | None = None) -> None:
        """Refuse keys that are not known."""
        for key in self.values:
            if key not in known:
                raise self.error(describe_unknown("key", key, known, owner), at=key)

    def require(self, *keys: str) -> None:
        """Refuse a section without these keys."""
        missing = [key for key in keys if self.values.get(key) is None]
        if missing:
            raise self.error(f"missing {', '.join(map(repr, missing))}: add {'it' if len(missing) == 1 else 'them'}")

    def check_values(self, hints: Mapping[str, Any]) -> None:
        """Refuse values that do not conform to the type hints of their keys."""
        for key, value in self.values.items():
            if key in hints and not conforms(value, hints[key]):
                wanted = describe_hint(hints[key])
                raise self.error(f"{key} must be {wanted}, not {describe_value(value)}", at=key)

    def check_listed(self, section: str) -> None:
        """Check the values that `COUNTS` and `_VALUES` list for a section."""
        self.check_values(_VALUES[section])
        for key, least in COUNTS[section].items():
            self.count(key, least)

    def count(self, key: str, least: int) -> None:
        """Refuse a value that is present, but not a whole number of at least `least`."""
        value = self.values.get(key)
        if isinstance(value, list) and key in COUNT_LISTS:
            if not value or not all(_is_count(each, least) for each in value):
                raise self.error(f"{key} must list whole numbers of at least {least}, not {value!r}", at=key)
        elif value is not None and not _is_count(value, least):
            raise self.error(f"{key} must be a whole number of at least {least}, not {value!r}", at=key)

    def look_up(self, kind: str, table: Table, key: str = "type") -> Any:
        """Return the entry of a registry or table that the section's `type` names."""
        self.require(key)
        # The registry's own look-up falls back to the suffix under which BasicSR registers what others may replace.
        known = {name.removesuffix("_basicsr"): target for name, target in sorted(table, reverse=True)}
        name = str(self.values[key])
        if name.removesuffix("_basicsr") not in known:
            raise self.error(describe_unknown(kind, name, known), at=key)
        return known[name.removesuffix("_basicsr")]

    def check_call(self, kind: str, table: Table, *, given: Collection[str] = (), extra: Collection[str] = ()) -> None:
        """Compare keys and values with the parameters, and their annotations, of what the section's `type` names.

        Args:
            kind: Kind of the entry, for messages.
            table: Names and their targets.
            given: Parameters that the caller fills in.
            extra: Keys that are read by others.
        """
        self.check_parameters(self.look_up(kind, table), given=given, extra={"type", *extra})

    def check_parameters(
        self, target: Callable, *, given: Collection[str] = (), extra: Collection[str] = (), owner: str | None = None
    ) -> None:
        """Compare keys and values with a known target's parameters; messages call it `owner` where that is given."""
        owner = owner or target.__name__
        parameters = inspect.signature(target).parameters.values()
        named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        takes = {name: p for name, p in named.items() if name not in given}
        if not _uses_extra_keywords(target):
            self.check_keys({*takes, *extra}, owner)
        missing = [name for name, p in takes.items() if p.default is p.empty and name not in self.values]
        if missing:
            raise self.error(f"{owner} needs {', '.join(map(repr, missing))}")
        hints = parameter_hints(target)
        self.check_values({name: hints[name] for name in takes.keys() & hints.keys()})


def _is_count(value: Any, least: int) -> bool:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return whole and value >= least


def _uses_extra_keywords(target: Callable) -> bool:
    """Return whether a constructor or function reads the `**kwargs` it takes; several of BasicSR's ignore them."""
    parameters = inspect.signature(target).parameters.values()
    name = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    body = _parse_source(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(body))


class _ModelKeys:
    """The option keys that a model reads, by section."""

    def __init__(self, model: type) -> None:
        self.paths = set(option_lookups(model))
        for base in model.__mro__:
            for section, keys in vars(base).get("OPTION_KEYS", {}).items():
                self.paths |= {(section, key) for key in keys}

    def of(self, *section: str) -> set[str]:
        """Return the keys directly in a section; no section means the top level."""
        depth = len(section)
        return {path[depth] for path in self.paths if len(path) > depth and path[:depth] == section} - _FILLED_KEYS


def _check_name(top: Section) -> None:
    name = top.values["name"]
    if not can_name_file(name):
        raise top.error(f"name must be a string that can name a folder, not {name!r}", at="name")


def _check_top_values(top: Section) -> None:
    top.check_listed("")
    if top.values.get("num_gpu") != "auto":
        top.count("num_gpu", 0)
    if (top.values.get("manual_seed") or 0) >= 2**32:
        raise top.error("manual_seed must be below 2**32, as NumPy needs it", at="manual_seed")


def check_network(network: Section, scale: Any) -> None:
    """Refuse a network of unknown architecture or options, or of another scale than that of the images; None: of any.

    Raises:
        UserError: As `validate_options`.
    """
    network.check_call("architecture", ARCH_REGISTRY)
    if network.look_up("architecture", ARCH_REGISTRY) is MixedArch:
        _check_mix(network)
        network = network.sub("base")
        network.check_call("architecture", ARCH_REGISTRY)
    upscale = _find_upscale(network)
    if scale is not None and upscale is not None and scale != upscale:
        by_default = "" if "upscale" in network.values else ", the default,"
        message = f"upscale {upscale}{by_default} is not the scale {scale} of the datasets: make them equal"
        raise network.error(message, at="upscale")


def _check_mix(network: Section) -> None:
    for index, entry in enumerate(network.values["mix"]):
        try:
            MixEntry.parse(entry)
        except ValueError as error:
            raise network.error(f"mix[{index}]: {error}", at="mix") from error


def _find_upscale(network: Section) -> Any:
    """Return a network's `upscale`, or its default; None where it has none."""
    parameters = inspect.signature(network.look_up("architecture", ARCH_REGISTRY)).parameters
    default = parameters["upscale"].default if "upscale" in parameters else None
    return network.values.get("upscale", default)


def _check_datasets(top: Section, *, is_train: bool) -> None:
    datasets = top.sub("datasets")
    reader, allowed = ("training", ("train", "val")) if is_train else ("testing", ("test",))
    for phase in datasets.values:
        if phase.partition("_")[0] not in allowed or phase.startswith("train_"):
            names = "train, val and val_*" if is_train else "test and test_*"
            raise datasets.error(f"unknown phase '{phase}'; {reader} knows {names}", at=phase)
        _check_dataset(top, datasets.sub(phase))
    _check_dataset_names(datasets)
    if is_train:
        datasets.require("train")
    elif not datasets.values:
        raise datasets.error("no dataset to test on: add test_1")


def _check_dataset_names(datasets: Section) -> None:
    """Refuse names of datasets to score that are equal, or lead out of the folder that their images go to."""
    phases: dict[str, str] = {}
    for phase in (phase for phase in datasets.values if phase != "train"):
        section = datasets.sub(phase)
        name = section.values.get("name") or phase
        if not can_name_file(name):
            raise section.error(f"name must be a string that can name a folder, not {name!r}", at="name")
        if name in phases:
            raise section.error(f"name '{name}' is that of {phases[name]} too: give each its own", at="name")
        phases[name] = phase


def _check_dataset(top: Section, section: Section) -> None:
    dataset = section.look_up("dataset", DATASET_REGISTRY)
    name, in_training = dataset.__name__, section.keys[-1] == "train"
    lookups = {path[0] for path in option_lookups(dataset)}
    if in_training and "gt_size" in lookups:
        lookups |= PHASE_LISTS.keys()
    _check_dataset_keys(section, dataset, _DATASET_KEYS | lookups)
    for each in [section, *(section.sub("sources").sub(name) for name in section.sub("sources").values)]:
        _check_files(each)
    section.require(*_of_bases(dataset, _REQUIRED_BY_DATASET))
    if in_training:
        section.require(*_needed_to_train(section, "batch_size_per_gpu", *_of_bases(dataset, _REQUIRED_TO_TRAIN)))
    section.check_listed("datasets")
    if in_training and _has_phases(section):
        _check_phases(section, top.sub("train").values.get("total_iter"))
    workers = section.values.get("num_worker_per_gpu") if in_training else 0  # BasicSR scores without any
    if section.values.get("persistent_workers") and not workers:
        cure = "num_worker_per_gpu above 0" if in_training else "workers, which only train has: remove it"
        raise section.error(f"persistent_workers needs {cure}", at="persistent_workers")
    if section.values.get("io_backend") is not None:
        section.sub("io_backend").look_up("backend", FileClient._backends.items())
    scale = top.values.get("scale", section.values.get("scale"))
    if "scale" in lookups and scale is None:
        raise top.error(f"missing 'scale': {name} needs it (1 where input and ground truth have one size)")
    _check_patch_sizes(section, scale or 1)


def _check_files(section: Section) -> None:
    """Refuse values that are not paths, and a template that formats more than a name."""
    section.check_values({key: str | None for key in section.values if key.startswith(FILE_KEYS)})
    template = section.values.get("filename_tmpl")
    if template is not None and (not isinstance(template, str) or not _TEMPLATE.fullmatch(template)):
        raise section.error("filename_tmpl must have one {}, which is the name of the image", at="filename_tmpl")


def _check_patch_sizes(section: Section, scale: int) -> None:
    for key in ("gt_size", "gt_sizes"):
        for size in _listed(section.values.get(key)):
            if size % scale:
                raise section.error(f"{key} {size} is not a multiple of the scale {scale}", at=key)


def _listed(value: Any) -> list[Any]:
    """Return a list of values, given as a list, as a single value, or as None for an empty one."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _has_phases(section: Section) -> bool:
    return any(section.values.get(key) is not None for key in PHASE_LISTS)


def _needed_to_train(section: Section, *keys: str) -> Iterable[str]:
    """Return the keys without which there is no training; lists of phases stand for single values."""
    return [*PHASE_LISTS, *(key for key in keys if key not in _SINGLE)] if _has_phases(section) else keys


def _check_phases(section: Section, total_iter: float | None) -> None:
    """Refuse lists of progressive training that contradict one another, or options beside them."""
    lists = {key: section.values[key] for key in PHASE_LISTS}
    for key, single in PHASE_LISTS.items():
        if not isinstance(lists[key], list):
            raise section.error(f"{key} must be a list with one entry per phase, not {lists[key]!r}", at=key)
        if single and section.values.get(single) is not None:
            raise section.error(f"{single} contradicts {key}: remove one of them", at=single)
    if len({len(each) for each in lists.values()}) > 1:
        counts = ", ".join(f"{key} has {len(each)}" for key, each in lists.items())
        raise section.error(f"the lists need one entry per phase each, but {counts}", at="iters")
    total = int(sum(lists["iters"]))
    if total_iter is not None and total != total_iter:
        raise section.error(f"iters add up to {total}, not to the {total_iter} of train:total_iter", at="iters")


def _check_dataset_keys(section: Section, dataset: type, known: set[str]) -> None:
    """Check the keys, and the values of those that the plugin's own datasets declare in `OPTIONS` and `SECTIONS`."""
    declared = getattr(dataset, "OPTIONS", None)
    if declared is None:
        section.check_keys(known, dataset.__name__)
        return
    section.check_parameters(declared, extra=known, owner=dataset.__name__)
    for key, kind in getattr(dataset, "SECTIONS", {}).items():
        section.require(key)
        for name in section.sub(key).values:
            section.sub(key).sub(name).check_parameters(kind, owner=dataset.__name__)
    options: DatasetOptions = pick_options(declared, section.values)
    for key, problem in options.problems(training=section.keys[-1] == "train"):
        raise section.error(problem, at=key)


def _of_bases(dataset: type, table: Mapping[str, Keys]) -> Keys:
    return next((table[base.__name__] for base in dataset.__mro__ if base.__name__ in table), ())


def _check_path(top: Section, networks: Iterable[str], known: set[str]) -> None:
    path, labels = top.sub("path"), [key.removeprefix("network_") for key in networks]
    of_networks = {f"{key}_{label}": hint for label in labels for key, hint in _PATH_VALUES_BY_NETWORK.items()}
    path.check_keys(known | _PATH_VALUES.keys() | of_networks.keys())
    path.check_values(_PATH_VALUES | of_networks)


def _check_train(top: Section, known: set[str], *, is_train: bool) -> None:
    train = top.sub("train")
    train.check_keys(known | {"total_iter", "warmup_iter", "scheduler", "max_unreadable"})
    if is_train:
        train.require("total_iter", *sorted({"optim_g", "scheduler"} & known))
    train.check_listed("train")
    _check_ranges(train)
    for key in (key for key, value in train.values.items() if value is not None):  # null switches a loss off
        if key.startswith("optim_"):
            train.sub(key).check_call("optimizer", known_optimizers().items(), given={"params"})
            train.sub(key).require("lr")
        elif key == "scheduler":
            train.sub(key).check_call("scheduler", known_schedulers().items(), given={"optimizer"})
            _check_periods(train.sub(key), train.values.get("total_iter"))
        elif key.endswith("_opt"):
            train.sub(key).check_call("loss", LOSS_REGISTRY)


def _check_accumulation(top: Section) -> None:
    """Refuse more parts than a batch has samples."""
    train, batches = top.sub("train"), top.sub("datasets").sub("train").values
    steps = train.values.get("accumulation_steps") or 1
    for size in (size for key in ("batch_size_per_gpu", "batch_sizes_per_gpu") for size in _listed(batches.get(key))):
        if steps > size:
            message = f"accumulation_steps {steps} is more than the batch of {size} that it divides"
            raise train.error(message, at="accumulation_steps")


def _check_ranges(train: Section) -> None:
    for key in ("grad_clip", "mixup"):
        value = train.values.get(key)
        if value is not None and not value > 0:
            raise train.error(f"{key} must be above 0, or ~ for none, not {value}", at=key)
    ema_decay = train.values.get("ema_decay")
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise train.error(f"ema_decay must be at least 0 and below 1, not {ema_decay}", at="ema_decay")


def _check_periods(scheduler: Section, total_iter: float | None) -> None:
    """Refuse periods that end before the training does: BasicSR has no learning rate for the rest."""
    if scheduler.values["type"] == "CosineAnnealingRestartLR":
        scheduler.check_values({"periods": Sequence[float]})
        total = sum(scheduler.values["periods"])
        if total_iter is not None and total < total_iter:
            raise scheduler.error(f"periods end at {total}, before total_iter {total_iter}: extend them", at="periods")


def _check_val(top: Section, known: set[str], *, is_train: bool) -> None:
    val = top.sub("val")
    val.check_keys(known | {"val_freq", "save_img", "suffix", "pbar", "metrics"})
    if is_train and val.values:
        val.require("val_freq")
    val.check_listed("val")
    suffix = val.values.get("suffix")
    if suffix is not None and not can_name_file(str(suffix)):
        raise val.error(f"suffix must be part of a name, without folders, not {suffix!r}", at="suffix")
    _check_restoration(val, is_train=is_train)
    _check_metrics(top, val)


def _check_metrics(top: Section, val: Section) -> None:
    """Check the protocol that `val.metrics` is or has, and BasicSR's own metrics."""
    alone = isinstance(val.values.get("metrics"), str)
    section, key = (val, "metrics") if alone else (val.sub("metrics"), "protocol")
    protocol, blocks = split_metrics(val.values.get("metrics"))
    if protocol is not None:
        _check_protocol(top, section, key, blocks)
    for name in blocks:
        metric = section.sub(name)
        metric.check_call("metric", METRIC_REGISTRY, given={"img", "img2"}, extra={"better"})
        if metric.values.get("better", "higher") not in ("higher", "lower"):
            raise metric.error("better must be 'higher' or 'lower'", at="better")


def _check_protocol(top: Section, section: Section, key: str, blocks: Collection[str]) -> None:
    """Refuse a protocol that is unknown, or does not go with the rest of the file."""
    name = section.values[key]
    if name not in PROTOCOLS:
        raise section.error(describe_unknown("protocol", name, PROTOCOLS), at=key)
    model = top.look_up("model", MODEL_REGISTRY, key="model_type")
    if not hasattr(model, "scorer"):
        raise section.error(f"{model.__name__} does not score by protocols: take model_type: SemanIRModel", at=key)
    protocol, datasets = PROTOCOLS[name], top.sub("datasets")
    for problem in protocol_problems(protocol, int(top.values.get("scale") or 1), blocks):
        raise section.error(problem, at=key)
    for dataset in (datasets.sub(phase) for phase in datasets.values if phase != "train"):
        kind = dataset.look_up("dataset", DATASET_REGISTRY)
        for option, problem in dataset_problems(protocol, kind, dataset.values):
            raise dataset.error(problem, at=option)


def _check_restoration(val: Section, *, is_train: bool) -> None:
    tile, overlap = val.values.get("tile"), val.values.get("tile_overlap")
    if is_train and isinstance(val.values.get("topk"), list):
        raise val.error("topk must be one number in training; `basicsr test` takes a list", at="topk")
    if tile != "auto":
        val.count("tile", 1)
    if overlap is not None and tile is None:
        raise val.error("tile_overlap needs tile: a number, or auto", at="tile_overlap")
    if isinstance(tile, int) and (overlap or 0) >= tile:
        raise val.error(f"tile_overlap {overlap} must be less than tile {tile}", at="tile_overlap")


def _check_logger(top: Section, *, is_train: bool) -> None:
    logger, wandb = top.sub("logger"), top.sub("logger").sub("wandb")
    logger.check_keys({*COUNTS["logger"], "safetensors", "use_tb_logger", "wandb"})
    logger.check_listed("logger")
    wandb.check_keys({"project", "resume_id"})
    wandb.check_values({"project": str | None, "resume_id": str | None})
    if is_train and wandb.values.get("project"):
        if not logger.values.get("use_tb_logger"):
            raise wandb.error("project needs logger.use_tb_logger: true, whose records it uploads", at="project")
        if find_spec("wandb") is None:
            raise wandb.error("project needs the package wandb: pip install wandb, or set it to ~", at="project")
    _check_dist_params(top.sub("dist_params"))


def _check_dist_params(section: Section) -> None:
    section.check_keys({"backend", "port", "timeout"})
    section.check_values({"timeout": float | None})
    timeout = section.values.get("timeout")
    if timeout is not None and not 0 < timeout <= _LONGEST_TIMEOUT:
        limits = f"minutes, above 0 and at most {_LONGEST_TIMEOUT}"
        raise section.error(f"timeout must be {limits}, not {timeout}", at="timeout")
