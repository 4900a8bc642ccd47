"""Training samples that cannot be read, and those that take their place."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import IterationSampler, SeededIndex
from semanir_plugin.basicsr_host.data.tolerant_dataset import UNREADABLE, TolerantDataset, collate
from semanir_plugin.errors import UserError


class Numbers(Dataset):
    """Its index and a number at random; some samples cannot be read."""

    def __init__(self, broken=(), size=7):
        self.opt = {"name": "numbers"}
        self.broken = broken
        self.paths = [f"{index}.png" for index in range(size)]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        if index in self.broken:
            raise OSError("Input/output error")
        return {"index": index, "x": torch.rand(2), "gt_path": self.paths[index]}


def tolerant(*broken, most=None, size=7):
    return TolerantDataset(GuardedDataset(Numbers(broken, size)), most=most)


def told(index):
    return {
        "image": f"{index}.png",
        "reason": f"dataset 'numbers': cannot read {index}.png: Input/output error",
    }


def test_the_next_that_can_be_read_takes_its_place_under_the_same_seed():
    dataset = tolerant(5, 6, most=2)
    sample = dataset[SeededIndex(5, 42)]
    assert sample["index"] == 0, "after the last comes the first"
    assert torch.equal(sample["x"], tolerant()[SeededIndex(0, 42)]["x"])
    assert sample[UNREADABLE] == [told(5), told(6)]
    assert dataset[SeededIndex(4, 42)][UNREADABLE] == []


def test_too_many_in_a_row_leave_nothing_to_read():
    assert tolerant(2, 3, most=1)[2] == {UNREADABLE: [told(2), told(3)]}
    assert tolerant(2, most=0)[2] == {UNREADABLE: [told(2)]}
    assert tolerant(*range(3), most=9, size=3)[1] == {UNREADABLE: [told(1), told(2), told(0)]}


@pytest.mark.parametrize(("size", "most"), [(1, 1), (100, 1), (101, 2), (800, 8), (32_592, 326)])
def test_one_in_a_hundred_may_be_unreadable_unless_said(size, most):
    assert tolerant(size=size).most == most


def read(dataset, workers=0, start=0, total=9):
    order = IterationSampler(len(dataset), batch_size=2, start_iter=start, total_iter=total, seed=3)
    return list(DataLoader(dataset, batch_size=2, sampler=order, num_workers=workers, collate_fn=collate))


def test_batches_are_the_same_whoever_reads_and_after_a_resume():
    batches = read(tolerant(1, 4, most=2))
    assert sum(len(batch[UNREADABLE]) for batch in batches) > 4
    for again, since in ((read(tolerant(1, 4, most=2), workers=2), 0), (read(tolerant(1, 4, most=2), start=4), 4)):
        assert [each["gt_path"] for each in again] == [each["gt_path"] for each in batches[since:]]
        assert [each[UNREADABLE] for each in again] == [each[UNREADABLE] for each in batches[since:]]
        assert all(torch.equal(a["x"], b["x"]) for a, b in zip(again, batches[since:], strict=True))
    whole = read(tolerant())
    spared = [index for index, batch in enumerate(batches) if not batch[UNREADABLE]]
    assert 0 < len(spared) < len(whole)
    assert all(torch.equal(whole[index]["x"], batches[index]["x"]) for index in spared), "the others are as before"


def test_a_batch_without_one_of_its_samples_is_none():
    batch = collate([tolerant(2, most=0)[1], tolerant(2, most=0)[2]])
    assert batch == {UNREADABLE: [told(2)]}


def test_the_first_sample_is_the_first_that_can_be_read():
    dataset = tolerant(0, most=1)
    dataset.dataset.dataset.file_client = "open"
    assert dataset.first_sample()["index"] == 1
    assert UNREADABLE not in dataset.first_sample()
    assert dataset.dataset.dataset.file_client is None
    with pytest.raises(UserError, match=r"cannot read 0\.png"):
        tolerant(0, 1, most=1).first_sample()
