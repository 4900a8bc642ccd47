"""Options of BasicSR's forks that people come with: each stands for options of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from semanir_plugin.option_files import OptionFile, copy_options
from semanir_plugin.plain_yaml import Keys
from semanir_plugin.schema.declarations import options_of
from semanir_plugin.schema.sources import option_lookups
from semanir_plugin.schema.values import Count

__all__ = ["ForkOptions", "take_fork_options"]


@dataclass(frozen=True, kw_only=True)
class ForkOptions:
    """Options of `datasets.train` from forks of BasicSR, which a dataset need not know.

    Attributes:
        geometric_augs: Restormer's, for `use_hflip` and `use_rot`: the same eight flips and turns, equally often.
        use_flip: NAFNet's name of `use_hflip`.
        mini_batch_sizes: Restormer's name of `batch_sizes_per_gpu`. With it, `gt_size` and `batch_size_per_gpu` are the
            largest ones, as there, and stand for nothing; patches are cut out of the image, not out of a larger patch.
    """

    geometric_augs: bool | None = None
    use_flip: bool | None = None
    mini_batch_sizes: Sequence[Count] | None = None


_STANDS_FOR = {
    "geometric_augs": ("use_hflip", "use_rot"),
    "use_flip": ("use_hflip",),
    "mini_batch_sizes": ("batch_sizes_per_gpu",),
}
_LARGEST = ("gt_size", "batch_size_per_gpu")


def take_fork_options(option_file: OptionFile) -> OptionFile:
    """Return the options of a run with those of forks replaced by what they stand for.

    A dataset that reads one of them keeps it. What stands there besides comes first. What is wrong with a value is then
    told of the option that it stands for, at its own line.
    """
    datasets = option_file.data.get("datasets")
    train = datasets.get("train") if isinstance(datasets, dict) else None
    if not isinstance(train, dict) or not (forks := _names(train)):
        return option_file
    data, places = copy_options(option_file.data), dict(option_file.places)
    section: dict[str, Any] = data["datasets"]["train"]
    if "mini_batch_sizes" in forks:
        _drop(section, places, _LARGEST)
    for name in forks:
        value = section.pop(name)
        for key in _STANDS_FOR[name]:
            if section.get(key) is None:
                section[key] = copy_options(value)
                places[("datasets", "train", key)] = option_file.where(("datasets", "train", name))
    return replace(option_file, data=data, places=places)


def _names(section: dict[str, Any]) -> list[str]:
    """Return the options of forks in a dataset's section that the dataset does not read itself."""
    given = [option.name for option in options_of(ForkOptions) if section.get(option.name) is not None]
    kind = next((target for name, target in DATASET_REGISTRY if name == section.get("type")), None)
    if not given or kind is None:  # which validation refuses
        return []
    return [name for name in given if name not in {path[0] for path in option_lookups(kind)}]


def _drop(section: dict[str, Any], places: dict[Keys, str], keys: tuple[str, ...]) -> None:
    for key in keys:
        section.pop(key, None)
        places.pop(("datasets", "train", key), None)
