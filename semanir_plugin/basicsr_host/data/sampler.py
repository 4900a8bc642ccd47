"""The order in which training images are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from semanir_plugin.basicsr_host.data.seeding import derive_seed

__all__ = ["IterationSampler", "SeededIndex"]


class SeededIndex(NamedTuple):
    """Index of an image to read, and the seed of its crop and augmentation."""

    image: int
    seed: int


class IterationSampler(Sampler[SeededIndex]):
    """Shuffled epochs laid end to end, cut to the iterations that are left to train.

    Replaces `basicsr.data.data_sampler.EnlargedSampler`, whose epochs end short of the iterations asked for and whose
    order ignores the seed. Image, crop and augmentation depend on the seed and the position in the sequence alone: a
    resumed run goes on where it was, whatever the number of workers; with the same global batch, so does one on another
    number of processes.

    Args:
        dataset_size: Images in the dataset, at least 1.
        batch_size: Samples per iteration and process.
        start_iter: Iterations that are done.
        total_iter: Iterations in all.
        first_position: Where in the sequence iteration 0 starts: samples that were drawn in batches of another size.
        seed: Seed of order and augmentation.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        dataset_size: int,
        *,
        batch_size: int,
        start_iter: int,
        total_iter: int,
        first_position: int = 0,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        per_iter = batch_size * world_size
        first, last = (first_position + iteration * per_iter for iteration in (start_iter, total_iter))
        self.positions = range(first + rank, last, world_size)
        self.dataset_size = dataset_size
        self.seed = seed

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[SeededIndex]:
        epoch, order = -1, []
        for position in self.positions:
            if position // self.dataset_size != epoch:
                epoch = position // self.dataset_size
                order = self._order(epoch)
            yield SeededIndex(order[position % self.dataset_size], derive_seed(self.seed, position))

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch, 0))
        return torch.randperm(self.dataset_size, generator=generator).tolist()
