from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sharing import gather_in_order, share, share_of_loader


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_image_is_someones_and_of_nobody_else(count, world_size):
    shares = [share(count, rank, world_size) for rank in range(world_size)]
    assert sorted(index for each in shares for index in each) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_what_was_shared_out_comes_back_in_order(monkeypatch, count, world_size):
    parts = [[f"image {index}" for index in share(count, rank, world_size)] for rank in range(world_size)]

    def all_gather_object(shares, own):
        assert own == parts[0]
        shares[:] = parts

    monkeypatch.setattr(dist, "all_gather_object", all_gather_object)
    assert gather_in_order(parts[0], world_size) == [f"image {index}" for index in range(count)]


class Drawn(list):
    """Samples that depend on the generator, as noise that is made for each image does."""

    opt = {"name": "set"}

    def __getitem__(self, index):
        return {"index": index, "noise": torch.rand(2)}


def test_a_share_has_the_samples_of_the_whole():
    loader = DataLoader(GuardedDataset(Drawn([0] * 5)))
    whole = list(loader)
    own = list(share_of_loader(loader, 1, 2))
    assert [int(sample["index"]) for sample in own] == [1, 3]
    assert all(torch.equal(sample["noise"], whole[sample["index"]]["noise"]) for sample in own)


def test_a_single_process_keeps_its_loader():
    loader = DataLoader(Drawn([0]))
    assert share_of_loader(loader, 0, 1) is loader
