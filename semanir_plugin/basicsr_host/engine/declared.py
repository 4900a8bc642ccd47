"""What is declared of the sections of an option file: by the engine, and by the models and datasets that it names."""

from __future__ import annotations

from typing import Any

from semanir_plugin.basicsr_host.data.dataset_options import LoaderOptions
from semanir_plugin.basicsr_host.engine import host_options
from semanir_plugin.basicsr_host.engine.phases import PhaseOptions
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.sources import option_lookups
from semanir_plugin.schema.values import Hint

__all__ = ["ModelKeys", "dataset_kinds", "is_own", "known_keys"]

_FILLED_KEYS = {  # looked up by models, but set when the options are resolved
    *("is_train", "auto_resume", "root_path", "dist", "rank", "world_size"),
    *("models", "training_states", "log", "visualization"),
}


class ModelKeys:
    """What a model reads in each section: declared in the `OPTIONS` of its classes, or found in their source.

    A model declares a dataclass for each section of which it reads more than the engine does:

        OPTIONS = {"train": MyTrainingOptions}
    """

    def __init__(self, model: type) -> None:
        self.model = model
        self.own = is_own(model)
        declared = [vars(base).get("OPTIONS", {}) for base in model.__mro__]
        self._declared = {section: kind for options in reversed(declared) for section, kind in options.items()}
        self._lookups = option_lookups(model)

    def declared(self, section: str) -> list[type]:
        """Return the declarations of a section."""
        return [self._declared[section]] if section in self._declared else []

    def of(self, section: str) -> set[str]:
        """Return the keys of a section, or of the top level."""
        keys = {option.name for kind in self.declared(section) for option in options_of(kind)}
        start = (section,) if section else ()
        found = {path[len(start)] for path in self._lookups if len(path) > len(start) and path[: len(start)] == start}
        return keys | (found - _FILLED_KEYS)

    def hints(self, section: str) -> dict[str, Hint]:
        """Return types of keys that are not declared, by what the host's models mean by them."""
        known = host_options.MODEL_HINTS.get(section, {})
        return {key: known[key] for key in self.of(section) & known.keys()}


def dataset_kinds(dataset: Any, *, training: bool) -> list[type]:
    """Return the declarations of a dataset's section."""
    declared = getattr(dataset, "OPTIONS", None)
    of_host = [host_options.DATASETS.get(each.__name__) for each in dataset.__mro__]
    kinds = [LoaderOptions, *([declared] if declared else [each for each in of_host if each][:1])]
    cuts_patches = "gt_size" in known_keys(*kinds) | {path[0] for path in option_lookups(dataset)}
    return [*kinds, PhaseOptions] if training and cuts_patches else kinds


def known_keys(*kinds: type) -> set[str]:
    """Return the names of the options of several declarations."""
    return {option.name for kind in kinds for option in options_of(kind)}


def is_own(target: type) -> bool:
    """Return whether a class is this package's, so that it reads no key but those it declares."""
    return target.__module__.partition(".")[0] == "semanir_plugin"
