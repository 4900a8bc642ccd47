"""Several datasets as one, and options that name several folders where a dataset takes one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from basicsr.data import build_dataset
from torch.utils.data import Dataset

__all__ = ["ROOTS", "JoinedDataset", "build_joined", "split_roots"]

ROOTS = ("dataroot_gt", "dataroot_lq", "meta_info_file")
"""Options of which a training set may have a list, with one entry for each of its folders or LMDBs."""


class JoinedDataset(Dataset[dict[str, Any]]):
    """Samples of several datasets.

    Args:
        opt: Options of the whole.
        sets: BasicSR datasets, each with its `paths` and `file_client`.
        samples: A dataset and an index within it for each sample; by default every sample once.
    """

    def __init__(
        self, opt: Mapping[str, Any], sets: Sequence[Any], samples: Sequence[tuple[Any, int]] | None = None
    ) -> None:
        self.opt, self.sets = opt, sets
        self.samples = [(each, index) for each in sets for index in range(len(each))] if samples is None else samples

    @property
    def paths(self) -> list[Any]:
        """The files of each sample, as its dataset has them."""
        return [each.paths[index] for each, index in self.samples]

    @property
    def file_client(self) -> list[Any]:
        """The file clients of the datasets; setting None closes all of them."""
        return [each.file_client for each in self.sets]

    @file_client.setter
    def file_client(self, client: None) -> None:
        for each in self.sets:
            each.file_client = client

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        each, image = self.samples[index]
        result: dict[str, Any] = each[image]
        return result


def split_roots(opt: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the options of a dataset for each of its folders; what is one for all, and what is null, each gets."""
    lists = {key: opt[key] for key in ROOTS if isinstance(opt.get(key), list)}
    for index in range(max(map(len, lists.values()), default=1)):
        entries = {key: each[index] for key, each in lists.items()}
        yield {**opt, **entries}


def build_joined(opt: Mapping[str, Any]) -> Any:
    """Build a dataset of any registered type, of several folders where its options have lists of them."""
    sets = [build_dataset(each) for each in split_roots(opt)]
    return sets[0] if len(sets) == 1 else JoinedDataset(opt, sets)
