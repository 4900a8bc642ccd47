"""Wrapper that replaces training samples that cannot be read by others, and reports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset, default_collate

from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import SeededIndex
from semanir_plugin.errors import UserError

__all__ = ["UNREADABLE", "TolerantDataset", "collate"]

UNREADABLE = "unreadable"
"""Key of samples and batches for the images skipped for them: a list of `image`, its files, and `reason`."""


class TolerantDataset(Dataset[dict[str, Any]]):
    """Dataset that gives, for a sample that cannot be read, the next one that can be, with the same seed.

    So what takes its place depends on the position in the sequence of samples, not on who reads it or when. Where more
    than `most` in a row, or all there are, cannot be read, the sample has nothing but `UNREADABLE`.

    Args:
        dataset: Dataset to read.
        most: Images that may be unreadable; None: one in a hundred, at least one.
    """

    def __init__(self, dataset: GuardedDataset, *, most: int | None = None) -> None:
        self.dataset = dataset
        self.opt = dataset.opt
        self.most = -(-len(dataset) // 100) if most is None else most

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SeededIndex | int) -> dict[str, Any]:
        index, seed = key if isinstance(key, SeededIndex) else (key, key)
        passed: list[dict[str, str]] = []
        for step in range(min(self.most + 1, len(self))):
            candidate = (index + step) % len(self)
            try:
                return {**self.dataset[SeededIndex(candidate, seed)], UNREADABLE: passed}
            except UserError as error:
                passed.append({"image": self.dataset.describe(candidate), "reason": str(error)})
        return {UNREADABLE: passed}

    def first_sample(self) -> dict[str, Any]:
        """Read the first sample that can be read, and close what was opened for it.

        Raises:
            UserError: There is none among the first few.
        """
        sample = self[0]
        self.close()
        passed = sample.pop(UNREADABLE)
        if not sample:
            raise UserError(passed[0]["reason"])
        return sample

    def close(self) -> None:
        """Close what was opened to read from; the next read opens it again."""
        self.dataset.close()


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch of a `TolerantDataset`'s samples; one without its data leaves nothing but `UNREADABLE`."""
    passed = [each for sample in samples for each in sample[UNREADABLE]]
    contents = [{key: value for key, value in sample.items() if key != UNREADABLE} for sample in samples]
    return {**(default_collate(contents) if all(contents) else {}), UNREADABLE: passed}
