"""Noise level and JPEG quality of the top level, which every dataset that takes them shares, as they share `scale`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from semanir_plugin.basicsr_host.engine.declared import dataset_kinds, known_keys
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import OptionFile, copy_options
from semanir_plugin.schema.sources import option_lookups

__all__ = ["LEVELS", "share_levels"]

LEVELS = ("sigma", "quality")
"""Options of the top level that each dataset has which takes them and says nothing else."""


def share_levels(option_file: OptionFile) -> OptionFile:
    """Return the options with `sigma` and `quality` moved into every dataset that takes them and has none of its own.

    What is wrong with the value is then told by the dataset's own checks, at the line of the top level.

    Raises:
        UserError: No dataset reads the value.
    """
    data, places = copy_options(option_file.data), dict(option_file.places)
    for key in (each for each in LEVELS if data.get(each) is not None):
        readers = [phase for phase, dataset in _datasets(data) if key in _taken(dataset) and dataset.get(key) is None]
        if not readers:
            hint = "each dataset has its own, or is of a type that takes none; remove it"
            raise UserError(f"{option_file.where((key,))}: {key}: nothing reads it: {hint}")
        for phase in readers:
            data["datasets"][phase][key] = copy_options(data[key])
            places["datasets", phase, key] = option_file.where((key,))
        del data[key]
    return replace(option_file, data=data, places=places)


def _datasets(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    datasets = data.get("datasets")
    for phase, dataset in datasets.items() if isinstance(datasets, dict) else ():
        if isinstance(dataset, dict):
            yield phase, dataset


def _taken(dataset: dict[str, Any]) -> set[str]:
    """Return the options that a dataset's type takes; none for what is no type, which the schema refuses."""
    kind = next((target for name, target in DATASET_REGISTRY if name == dataset.get("type")), None)
    if kind is None:
        return set()
    return known_keys(*dataset_kinds(kind, training=False)) | {path[0] for path in option_lookups(kind)}
