"""Validation of an option file before any work: every value must suit what reads it, and every key be read.

There is no second list of options to keep in step. The engine's sections are declared in `sections`, a model's and a
dataset's in its `OPTIONS`; what a network, loss, metric, optimiser or scheduler takes is its signature. Classes that
declare nothing are read: the keys that they look up are theirs, and what `host_options` knows of those holds for them.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from torch.optim import Optimizer

from semanir_plugin.basicsr_host.engine import host_options
from semanir_plugin.basicsr_host.engine.dataset_validation import DatasetValidation, check_dataset_names, listed
from semanir_plugin.basicsr_host.engine.declared import ModelKeys, known_keys
from semanir_plugin.basicsr_host.engine.network_validation import check_network
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
from semanir_plugin.basicsr_host.optimization import known_optimizers, known_schedulers
from semanir_plugin.basicsr_host.scoring import PROTOCOLS, dataset_problems, protocol_problems, split_metrics
from semanir_plugin.errors import describe_unknown
from semanir_plugin.option_files import OptionFile
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.sections import Section
from semanir_plugin.schema.values import Count, conforms, without_null

__all__ = ["validate_options"]


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
        top.read(RunOptions)
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
        top.require("network_g", *self._needed())
        scale = top.values.get("scale")
        for key in self.networks:
            section = top.sub(key)
            if section.values:
                check_network(section, scale if conforms(scale, Count, whole=True) else None)
        self._check_datasets()
        self._check_path()
        self._check_train()
        self._check_val()
        self._check_logger()

    def _needed(self) -> list[str]:
        """Return the keys of the top level without which the model cannot train."""
        degrades = self.top.sub("datasets").sub("train").values.get("type") == "RealESRGANDataset"
        degrades &= self.top.values.get("high_order_degradation") is not False
        needed = host_options.NEEDED[""] | (host_options.DEGRADATIONS if degrades else set())
        return sorted(needed & self.keys.of("")) if self.is_train else []

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
                DatasetValidation(self.top, section).check_all()
        check_dataset_names(datasets)
        if not isinstance(self.top.values.get("datasets"), dict):
            return  # as was reported
        if self.is_train:
            datasets.require("train")
        elif not datasets.subs() and self.top.values["model_type"] not in host_options.SAMPLING_MODELS:
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
        for key in path.values:
            if key.startswith(("pretrain_network", "resume_state")) and not str(path.values[key]).strip():
                path.report(f"{key} is empty: name a file, or remove it", at=key)

    def _check_train(self) -> None:
        train = self.top.sub("train")
        if not self.is_train and not train.values:
            return
        read = self._check_section(train, TrainingOptions)
        if not read:
            return
        if self.is_train:
            train.require(*sorted(host_options.NEEDED["train"] & self.keys.of("train")))
            if train.values.get("ldl_opt") and not train.values.get("ema_decay"):
                train.report("ldl_opt compares with the average of the weights: set ema_decay", at="ldl_opt")
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
        if options is not None and options.warmup_iter > options.total_iter:
            train.warn(f"warmup_iter is more than total_iter {options.total_iter}: it does not end", at="warmup_iter")
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
        for size in (size for each in sizes for size in listed(each)):
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
        if not self.is_train:
            return
        if isinstance(wandb.values.get("project"), str):
            if not logger.values.get("use_tb_logger"):
                wandb.report("project needs logger.use_tb_logger: true, whose records it uploads", at="project")
            elif find_spec("wandb") is None:
                wandb.report("project needs the package wandb: pip install wandb, or set it to ~", at="project")
        if logger.values.get("use_tb_logger") and find_spec("tensorboard") is None:
            cure = "needs the package tensorboard: pip install tensorboard, or set it to false"
            logger.report(f"use_tb_logger {cure}", at="use_tb_logger")


def _of_kind(train: Section, affix: str, *, prefix: bool = False) -> list[str]:
    """Return the keys of sections whose name starts, or ends, so; null switches them off."""
    fits = str.startswith if prefix else str.endswith
    return [key for key, value in train.values.items() if fits(key, affix) and isinstance(value, dict)]


def _check_loss(section: Section) -> None:
    target = section.look_up("loss", LOSS_REGISTRY)
    if target is not None:
        section.check_call(target, extra={"type"}, hints=host_options.LOSS_HINTS)
