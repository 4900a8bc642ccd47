"""Divide a set of images among the processes of a run, and gather their results."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed as dist
from torch.utils.data import DataLoader, Subset

__all__ = ["gather_in_order", "share", "share_of_loader"]

T = TypeVar("T")


def share(count: int, rank: int, world_size: int) -> range:
    """Return the indices of this process's share of `count` images: every `world_size`-th, as neighbours are alike."""
    return range(rank, count, world_size)


def share_of_loader(loader: DataLoader[Any], rank: int, world_size: int) -> DataLoader[Any]:
    """Return a loader of this process's share of another loader's dataset, one image at a time."""
    if world_size == 1:
        return loader
    dataset: Any = loader.dataset
    return DataLoader(Subset(dataset, share(len(dataset), rank, world_size)), pin_memory=loader.pin_memory)


def gather_in_order(own: list[T], world_size: int) -> list[T]:
    """Return the results of all processes' shares, on every process, in the order of the images.

    Args:
        own: An item for each image of this process's `share`.
        world_size: Number of processes, all of which must call this.
    """
    if world_size == 1:
        return own
    shares: list[list[T]] = [[] for _ in range(world_size)]
    dist.all_gather_object(shares, own)
    return [shares[index % world_size][index // world_size] for index in range(sum(map(len, shares)))]
