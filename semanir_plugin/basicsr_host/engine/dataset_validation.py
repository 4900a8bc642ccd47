"""Validation of the sections of datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from basicsr.utils.file_client import FileClient
from basicsr.utils.registry import DATASET_REGISTRY

from semanir_plugin.basicsr_host.data.joined_dataset import ROOTS
from semanir_plugin.basicsr_host.engine import host_options
from semanir_plugin.basicsr_host.engine.declared import dataset_kinds, is_own, known_keys
from semanir_plugin.basicsr_host.engine.phases import PHASE_LISTS, PhaseOptions
from semanir_plugin.option_files import FILE_KEYS
from semanir_plugin.path_safety import can_name_file
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.sections import Section
from semanir_plugin.schema.sources import option_lookups
from semanir_plugin.schema.values import Count, conforms

__all__ = ["DatasetValidation", "check_dataset_names", "check_entries", "listed"]

_TEMPLATE = re.compile(r"[^{}/]*\{\}[^{}/]*")


class DatasetValidation:
    """The checks of one dataset."""

    def __init__(self, top: Section, section: Section) -> None:
        self.top = top
        self.training = section.keys[-1] == "train"
        self.dataset: Any = section.look_up("dataset", DATASET_REGISTRY)
        own = self.dataset is None or is_own(self.dataset)
        self.section = Section(section.file, section.keys, section.values, section.problems, strict=own)
        self.lookups = {path[0] for path in option_lookups(self.dataset)} if self.dataset else set()

    def check_all(self) -> None:
        """Check everything."""
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
        if {"mean", "std"} <= known | self.lookups:
            self._check_normalisation()
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
        right = [_check_files(self.section, lists=self.training), self._check_roots()]
        for key, kinds in getattr(self.dataset, "SECTIONS", {}).items():
            right.append(check_entries(self.section.sub(key), kinds, self.dataset.__name__))
        return all(right)

    def _check_roots(self) -> bool:
        """Return whether lists of folders are of one length, and no folder is missing."""
        lists = {key: self.section.values[key] for key in ROOTS if isinstance(self.section.values.get(key), list)}
        single = [key for key in ROOTS if isinstance(self.section.values.get(key), str)]
        counts = ", ".join(f"{key} has {len(each)}" for key, each in lists.items())
        if lists and (single or len({len(each) for each in lists.values()}) > 1 or [] in lists.values()):
            counts += "".join(f", {key} is no list" for key in single)
            self.section.report(f"lists of folders need one entry for each, but {counts}", at=next(iter(lists)))
            return False
        return True

    def _check_normalisation(self) -> None:
        given = [key for key in ("mean", "std") if self.section.values.get(key) is not None]
        if len(given) == 1:
            self.section.report("mean and std need each other: give both, or none", at=given[0])

    def _check_backend(self) -> None:
        if self.section.values.get("io_backend") is not None:
            backend = self.section.sub("io_backend")
            backend.look_up("backend", FileClient._backends.items())
            if backend.values.get("type") == "memcached" and find_spec("mc") is None:
                backend.report("memcached needs the package mc, which is not here: take disk or lmdb", at="type")

    def _check_sizes(self) -> None:
        scale = self.top.values.get("scale", self.section.values.get("scale"))
        if "scale" in self.lookups and scale is None:
            name = self.dataset.__name__
            self.top.report(f"missing 'scale': {name} needs it (1 where input and ground truth have one size)")
        for key in ("gt_size", "gt_sizes"):
            for size in listed(self.section.values.get(key)):
                if conforms(size, Count, whole=True) and conforms(scale, Count, whole=True) and size % scale:
                    self.section.report(f"{key} {size} is not a multiple of the scale {scale}", at=key)

    def _check_workers(self) -> None:
        workers = self.section.values.get("num_worker_per_gpu") if self.training else 0  # scoring has none
        if self.section.values.get("persistent_workers") is True and not workers:
            cure = "num_worker_per_gpu above 0" if self.training else "workers, which only train has: remove it"
            self.section.report(f"persistent_workers needs {cure}", at="persistent_workers")


def check_dataset_names(datasets: Section) -> None:
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


def check_entries(parent: Section, kinds: Mapping[str, type] | type, owner: str) -> bool:
    """Return whether the sections of a section are right; what is wrong is reported.

    Args:
        parent: The section around them.
        kinds: Declaration of each by its name, or the one of them all, whatever they are called.
        owner: What messages call it that takes them.
    """
    sections = parent.subs()
    right = [len(sections) == sum(value is not None for value in parent.values.values())]
    if isinstance(kinds, Mapping):
        right.append(parent.check_keys(kinds))
        sections = {name: section for name, section in sections.items() if name in kinds}
    for name, section in sections.items():
        kind = kinds[name] if isinstance(kinds, Mapping) else kinds
        right += [section.check_call(kind, owner=owner), _check_files(section)]
    return all(right)


def _check_files(section: Section, *, lists: bool = False) -> bool:
    """Return whether values that are paths are strings, or `lists` where there may be some, and a template is one."""
    files = [key for key, value in section.values.items() if key.startswith(FILE_KEYS) and value is not None]
    right = section.check_values({key: str | Sequence[str] if lists and key in ROOTS else str for key in files})
    template = section.values.get("filename_tmpl")
    if isinstance(template, str) and not _TEMPLATE.fullmatch(template):
        section.report("filename_tmpl must have one {}, which is the name of the image", at="filename_tmpl")
        return False
    return right


def listed(value: Any) -> list[Any]:
    """Return a list of values, given as a list, as a single value, or as None for an empty one."""
    return [] if value is None else value if isinstance(value, list) else [value]
