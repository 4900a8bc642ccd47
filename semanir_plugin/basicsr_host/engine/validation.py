"""Validation of an option file before any work: every value must suit what reads it, and every key be read.

There is no second list of options to keep in step. The engine's sections are declared in `sections`, a model's and a
dataset's in its `OPTIONS`; what a network, loss, metric, optimiser or scheduler takes is its signature. Classes that
declare nothing are read: the keys that they look up are theirs, and what `host_options` knows of those holds for them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

from basicsr.utils.file_client import FileClient
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from torch.optim import Optimizer

from semanir_plugin.archs.mixed_arch import MixedArch
from semanir_plugin.basicsr_host.compat.repairs import known_optimizers, known_schedulers
from semanir_plugin.basicsr_host.engine import host_options
from semanir_plugin.basicsr_host.engine.declared import ModelKeys, dataset_kinds, is_own, known_keys
from semanir_plugin.basicsr_host.engine.phases import PHASE_LISTS, PhaseOptions
from semanir_plugin.basicsr_host.engine.schedules import build_optimizer, try_schedule
from semanir_plugin.basicsr_host.engine.sections import (
    DistributedOptions,
    LoggerOptions,
    NetworkPathOptions,
    PathOptions,
    RunOptions,
    TrainingOptions,
    ValidationOptions,
    WandbOptions,
)
from semanir_plugin.basicsr_host.scoring import PROTOCOLS, dataset_problems, protocol_problems, split_metrics
from semanir_plugin.errors import describe_unknown
from semanir_plugin.mixing import MixEntry
from semanir_plugin.option_files import FILE_KEYS, OptionFile
from semanir_plugin.path_safety import can_name_file
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.sections import Section
from semanir_plugin.schema.sources import option_lookups
from semanir_plugin.schema.values import Count, conforms, without_null

__all__ = ["check_network", "validate_options"]

_TEMPLATE = re.compile(r"[^{}/]*\{\}[^{}/]*")


def validate_options(option_file: OptionFile, *, is_train: bool) -> list[str]:
    """Check every section of an option file against what will read it.

    Returns:
        Warnings: keys that nothing seems to read, where that is no error, with line and near match.

    Raises:
        OptionError: A key is unknown or missing, a registered name is unknown, or a value cannot be right. The message
            has a line for each, with its place in the file, its section, a near match and the known names.
    """
    top = Section.top(option_file)
    model = top.look_up("model", MODEL_REGISTRY, key="model_type")
    if model is None:
        top.problems.raise_all()
    _Validation(top, model, is_train).check_all()
    top.problems.raise_all()
    return top.problems.warnings


class _Validation:
    """The checks of one option file."""

    def __init__(self, top: Section, model: type, is_train: bool) -> None:
        self.keys = ModelKeys(model)
        self.top = Section(top.file, (), top.values, top.problems, strict=self.keys.own)
        self.is_train = is_train
        self.networks = [key for key in top.values if key.startswith("network_")]

    def check_all(self) -> None:
        top = self.top
        self._check_section(top, RunOptions, owner=self.keys.model.__name__)
        top.require("network_g")
        scale = top.values.get("scale")
        for key in self.networks:
            if top.values[key] is not None:
                check_network(top.sub(key), scale if conforms(scale, Count, whole=True) else None)
        self._check_datasets()
        self._check_path()
        self._check_train()
        self._check_val()
        self._check_logger()

    def _check_section(self, section: Section, engine: type, *, owner: str | None = None) -> dict[type, Any]:
        """Check a section that the engine and the model read; return the options by declaration, None if wrong."""
        key = section.keys[0] if section.keys else ""
        if section.keys and not isinstance(self.top.values.get(key), dict | None):
            return {}  # as was reported
        kinds = [engine, *(each for each in self.keys.declared(key) if each is not engine)]
        section.check_keys(known_keys(*kinds) | self.keys.of(key), owner)
        section.check_values(self.keys.hints(key))
        return {kind: section.read(kind, to_train=self.is_train) for kind in kinds}

    def _check_datasets(self) -> None:
        datasets = self.top.sub("datasets", strict=True)
        reader, allowed = ("training", ("train", "val")) if self.is_train else ("testing", ("test",))
        for phase, section in datasets.subs().items():
            if phase.partition("_")[0] not in allowed or phase.startswith("train_"):
                names = "train, val and val_*" if self.is_train else "test and test_*"
                datasets.report(f"unknown phase '{phase}'; {reader} knows {names}", at=phase)
            elif isinstance(section.values.get("type"), str) or section.require("type"):
                _DatasetValidation(self.top, section).check_all()
        _check_dataset_names(datasets)
        if self.is_train:
            datasets.require("train")
        elif not datasets.values:
            datasets.report("no dataset to test on: add test_1")

    def _check_path(self) -> None:
        path = self.top.sub("path")
        labels = [key.removeprefix("network_") for key in self.networks]
        of_networks = {
            f"{option.name}_{label}": without_null(option.hint)
            for option in options_of(NetworkPathOptions)
            for label in labels
        }
        path.check_keys(known_keys(PathOptions) | of_networks.keys() | self.keys.of("path"))
        path.read(PathOptions)
        path.check_values({key: hint for key, hint in of_networks.items() if path.values.get(key) is not None})

    def _check_train(self) -> None:
        train = self.top.sub("train")
        if not self.is_train and not train.values:
            return
        read = self._check_section(train, TrainingOptions)
        if not read:
            return
        if self.is_train:
            train.require(*sorted({"optim_g", "scheduler"} & self.keys.of("train")))
        optimizers = [self._build_optimizer(train.sub(key)) for key in _of_kind(train, "optim_", prefix=True)]
        for key in self.keys.of("train") & set(_of_kind(train, "_opt")):
            _check_loss(train.sub(key))
        options = read.get(TrainingOptions)
        scheduled = isinstance(train.values.get("scheduler"), dict) and self._check_scheduler(
            train.sub("scheduler"), options
        )
        if options is not None and scheduled:
            for optimizer in filter(None, optimizers):
                with train.sub("scheduler").reporting():
                    try_schedule(optimizer, train.values["scheduler"], total_iter=options.total_iter)
        if self.is_train:
            self._check_accumulation(train)

    def _build_optimizer(self, section: Section) -> Optimizer | None:
        """Return an optimiser of the section's options; None, reported, where they cannot be right."""
        target, hints = section.look_up("optimizer", known_optimizers().items()), host_options.OPTIMIZER_HINTS
        known = target is not None and section.check_call(target, given={"params"}, extra={"type"}, hints=hints)
        if section.require("lr") and known:
            with section.reporting():
                return build_optimizer(section.values)
        return None

    def _check_scheduler(self, section: Section, options: TrainingOptions | None) -> bool:
        """Return whether the options of the schedule can be right."""
        target = section.look_up("scheduler", known_schedulers().items())
        hints = host_options.SCHEDULER_HINTS
        if target is None or not section.check_call(target, given={"optimizer"}, extra={"type"}, hints=hints):
            return False
        unsorted = [
            key for key in ("milestones", "restarts") if sorted(steps := section.values.get(key) or []) != steps
        ]
        for key in unsorted:
            section.report(f"{key} must rise, not be {section.values[key]}", at=key)
        periods = section.values.get("periods") or []
        ends_early = bool(periods) and options is not None and sum(periods) < options.total_iter
        if options is not None and ends_early:
            message = f"periods end at {sum(periods)}, before total_iter {options.total_iter}: extend them"
            section.report(message, at="periods")
        return not unsorted and not ends_early

    def _check_accumulation(self, train: Section) -> None:
        """Refuse more parts than a batch has samples."""
        steps = train.values.get("accumulation_steps") or 1
        batches = self.top.sub("datasets").sub("train").values
        sizes = [batches.get(key) for key in ("batch_size_per_gpu", "batch_sizes_per_gpu")]
        for size in (size for each in sizes for size in _listed(each)):
            if conforms(steps, Count, whole=True) and conforms(size, Count, whole=True) and steps > size:
                message = f"accumulation_steps {steps} is more than the batch of {size} that it divides"
                train.report(message, at="accumulation_steps")

    def _check_val(self) -> None:
        val = self.top.sub("val")
        self._check_section(val, ValidationOptions)
        if self.is_train and val.values:
            val.require("val_freq")
        if self.is_train and isinstance(val.values.get("topk"), list):
            val.report("topk must be one number in training; `basicsr test` takes a list", at="topk")
        self._check_metrics(val)

    def _check_metrics(self, val: Section) -> None:
        """Check the protocol that `val.metrics` is or has, and BasicSR's own metrics."""
        if not isinstance(val.values.get("metrics"), str | dict | None):
            return  # as was reported
        alone = isinstance(val.values.get("metrics"), str)
        section, key = (val, "metrics") if alone else (val.sub("metrics"), "protocol")
        protocol, blocks = split_metrics(val.values.get("metrics") if alone else section.values)
        if protocol is not None:
            self._check_protocol(section, key, blocks)
        for section in (section.sub(name) for name, block in blocks.items() if block is not None):
            if not section.values:
                continue
            target = section.look_up("metric", METRIC_REGISTRY)
            hints = host_options.METRIC_HINTS
            if target is not None:
                section.check_call(target, given={"img", "img2"}, extra={"type", "better"}, hints=hints)
                section.check_values({"better": hints["better"]})

    def _check_protocol(self, section: Section, key: str, blocks: Collection[str]) -> None:
        """Refuse a protocol that is unknown, or does not go with the rest of the file."""
        name, model = section.values[key], self.keys.model
        if name not in PROTOCOLS:
            section.report(describe_unknown("protocol", str(name), PROTOCOLS), at=key)
            return
        if not hasattr(model, "scorer"):
            section.report(f"{model.__name__} does not score by protocols: take model_type: SemanIRModel", at=key)
            return
        scale = self.top.values.get("scale") or 1
        for problem in (
            protocol_problems(PROTOCOLS[name], int(scale), blocks) if conforms(scale, Count, whole=True) else ()
        ):
            section.report(problem, at=key)
        known = dict(iter(DATASET_REGISTRY))
        for dataset in (each for phase, each in self.top.sub("datasets").subs().items() if phase != "train"):
            kind = known.get(str(dataset.values.get("type")))
            for option, problem in dataset_problems(PROTOCOLS[name], kind, dataset.values) if kind else ():
                dataset.report(problem, at=option)

    def _check_logger(self) -> None:
        logger, wandb, dist = self.top.sub("logger"), self.top.sub("logger").sub("wandb"), self.top.sub("dist_params")
        for section, kind in ((logger, LoggerOptions), (wandb, WandbOptions), (dist, DistributedOptions)):
            section.check_keys(known_keys(kind))
            section.read(kind)
        if self.is_train and isinstance(wandb.values.get("project"), str):
            if not logger.values.get("use_tb_logger"):
                wandb.report("project needs logger.use_tb_logger: true, whose records it uploads", at="project")
            elif find_spec("wandb") is None:
                wandb.report("project needs the package wandb: pip install wandb, or set it to ~", at="project")


class _DatasetValidation:
    """The checks of one dataset."""

    def __init__(self, top: Section, section: Section) -> None:
        self.top = top
        self.training = section.keys[-1] == "train"
        self.dataset: Any = section.look_up("dataset", DATASET_REGISTRY)
        own = self.dataset is None or is_own(self.dataset)
        self.section = Section(section.file, section.keys, section.values, section.problems, strict=own)
        self.lookups = {path[0] for path in option_lookups(self.dataset)} if self.dataset else set()

    def check_all(self) -> None:
        if self.dataset is None:
            return
        section, kinds = self.section, dataset_kinds(self.dataset, training=self.training)
        known = known_keys(*kinds)
        section.check_keys(known | self.lookups, self.dataset.__name__)
        whole = self._check_sections()
        for kind in kinds:
            self._read(kind, whole=whole)
        hints = host_options.DATASET_HINTS
        undeclared = (self.lookups - known) & hints.keys()
        section.check_values({key: hints[key] for key in undeclared if section.values.get(key) is not None})
        self._check_backend()
        self._check_sizes()
        self._check_workers()

    def _read(self, kind: type, *, whole: bool) -> None:
        """Check one declaration; lists of phases stand for single values."""
        options = self.section.read(kind, to_train=False)
        needed = {option.name for option in options_of(kind) if option.required_to_train} if self.training else set()
        if self._has_phases():
            needed -= {single for single in PHASE_LISTS.values() if single}
            needed |= PHASE_LISTS.keys() if kind is PhaseOptions else set()
        elif kind is PhaseOptions:
            needed = set()
        if not self.section.require(*(option.name for option in options_of(kind) if option.name in needed)):
            return
        if options is not None and whole and hasattr(options, "phase_problems"):
            for key, problem in options.phase_problems(training=self.training):
                self.section.report(problem, at=key)
        if kind is PhaseOptions and options is not None and self._has_phases():
            self._check_phases()

    def _has_phases(self) -> bool:
        return self.training and any(self.section.values.get(key) is not None for key in PHASE_LISTS)

    def _check_phases(self) -> None:
        """Refuse lists of progressive training that contradict one another, or options beside them."""
        section = self.section
        lists = {key: section.values[key] for key in PHASE_LISTS}
        for key, single in PHASE_LISTS.items():
            if single and section.values.get(single) is not None:
                section.report(f"{single} contradicts {key}: remove one of them", at=single)
        if len({len(each) for each in lists.values()}) > 1:
            counts = ", ".join(f"{key} has {len(each)}" for key, each in lists.items())
            section.report(f"the lists need one entry per phase each, but {counts}", at="iters")
            return
        total, wanted = int(sum(lists["iters"])), self.top.sub("train").values.get("total_iter")
        if conforms(wanted, Count, whole=True) and total != wanted:
            section.report(f"iters add up to {total}, not to the {wanted} of train:total_iter", at="iters")

    def _check_sections(self) -> bool:
        """Return whether the sections of a dataset's section, such as the sources of a mixed one, are right."""
        right = [_check_files(self.section)]
        for key, kind in getattr(self.dataset, "SECTIONS", {}).items():
            parent = self.section.sub(key)
            sections = parent.subs()
            right.append(len(sections) == len(parent.values))
            for section in sections.values():
                right += [section.check_call(kind, owner=self.dataset.__name__), _check_files(section)]
        return all(right)

    def _check_backend(self) -> None:
        if self.section.values.get("io_backend") is not None:
            self.section.sub("io_backend").look_up("backend", FileClient._backends.items())

    def _check_sizes(self) -> None:
        scale = self.top.values.get("scale", self.section.values.get("scale"))
        if "scale" in self.lookups and scale is None:
            name = self.dataset.__name__
            self.top.report(f"missing 'scale': {name} needs it (1 where input and ground truth have one size)")
        for key in ("gt_size", "gt_sizes"):
            for size in _listed(self.section.values.get(key)):
                if conforms(size, Count, whole=True) and conforms(scale, Count, whole=True) and size % scale:
                    self.section.report(f"{key} {size} is not a multiple of the scale {scale}", at=key)

    def _check_workers(self) -> None:
        workers = self.section.values.get("num_worker_per_gpu") if self.training else 0  # scoring has none
        if self.section.values.get("persistent_workers") is True and not workers:
            cure = "num_worker_per_gpu above 0" if self.training else "workers, which only train has: remove it"
            self.section.report(f"persistent_workers needs {cure}", at="persistent_workers")


def check_network(network: Section, scale: Any) -> None:
    """Report a network of unknown architecture or options, or of another scale than the images; None: of any."""
    target = network.look_up("architecture", ARCH_REGISTRY)
    if target is None or not _check_architecture(network, target):
        return
    if target is MixedArch:
        network = network.sub("base")
        target = network.look_up("architecture", ARCH_REGISTRY)
        if target is None or not _check_architecture(network, target):
            return
    upscale = _find_upscale(network, target)
    if scale is not None and upscale is not None and scale != upscale:
        by_default = "" if "upscale" in network.values else ", the default,"
        message = f"upscale {upscale}{by_default} is not the scale {scale} of the datasets: make them equal"
        network.report(message, at="upscale")


def _check_architecture(network: Section, target: Any) -> bool:
    hints = {} if is_own(target) else host_options.NETWORK_HINTS
    right = network.check_call(target, extra={"type"}, hints=hints)
    if target is MixedArch and isinstance(network.values.get("mix"), list):
        for index, entry in enumerate(network.values["mix"]):
            try:
                MixEntry.parse(entry)
            except ValueError as error:
                network.report(f"mix[{index}]: {error}", at="mix")
    return right


def _find_upscale(network: Section, target: Any) -> Any:
    """Return a network's `upscale`, or its default; None where it has none."""
    parameters = inspect.signature(target).parameters
    default = parameters["upscale"].default if "upscale" in parameters else None
    return network.values.get("upscale", default)


def _check_dataset_names(datasets: Section) -> None:
    """Refuse names of datasets to score that are equal, or lead out of the folder that their images go to."""
    phases: dict[str, str] = {}
    for phase, section in datasets.subs().items():
        name = section.values.get("name") or phase
        if phase == "train":
            continue
        if not can_name_file(name):
            section.report(f"name must be a string that can name a folder, not {name!r}", at="name")
        elif name in phases:
            section.report(f"name '{name}' is that of {phases[name]} too: give each its own", at="name")
        else:
            phases[name] = phase


def _check_files(section: Section) -> bool:
    """Return whether values that are paths are strings, and a template formats a name and no more."""
    paths = {key: str for key, value in section.values.items() if key.startswith(FILE_KEYS) and value is not None}
    right = section.check_values(paths)
    template = section.values.get("filename_tmpl")
    if isinstance(template, str) and not _TEMPLATE.fullmatch(template):
        section.report("filename_tmpl must have one {}, which is the name of the image", at="filename_tmpl")
        return False
    return right


def _of_kind(train: Section, affix: str, *, prefix: bool = False) -> list[str]:
    """Return the keys of sections whose name starts, or ends, so; null switches them off."""
    fits = str.startswith if prefix else str.endswith
    return [key for key, value in train.values.items() if fits(key, affix) and isinstance(value, dict)]


def _check_loss(section: Section) -> None:
    target = section.look_up("loss", LOSS_REGISTRY)
    if target is not None:
        section.check_call(target, extra={"type"}, hints=host_options.LOSS_HINTS)


def _listed(value: Any) -> list[Any]:
    """Return a list of values, given as a list, as a single value, or as None for an empty one."""
    return [] if value is None else value if isinstance(value, list) else [value]
