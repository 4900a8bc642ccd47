from __future__ import annotations

import random
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from basicsr.data.single_image_dataset import SingleImageDataset

from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import IterationSampler
from semanir_plugin.basicsr_host.data.seeding import get_rng_state, seeded, set_rng_state
from semanir_plugin.errors import UserError


def sampler(size=15, batch=8, start=0, total=1000, seed=0, **kwargs):
    return IterationSampler(size, batch_size=batch, start_iter=start, total_iter=total, seed=seed, **kwargs)


@pytest.mark.parametrize("size", [1, 3, 15, 4000])
def test_exactly_the_iterations_asked_for(size):
    # BasicSR's loop ends after 501 of 1000 iterations with 15 images, and runs none with fewer images than the batch.
    loader = torch.utils.data.DataLoader(range(size), batch_size=8, sampler=[0] * len(sampler(size)), drop_last=True)
    assert len(loader) == 1000
    assert len(list(sampler(size))) == 8000


def test_every_epoch_shows_every_image_once_in_another_order():
    indices = [each.image for each in sampler(size=15, batch=5, total=9)]
    epochs = [indices[i : i + 15] for i in (0, 15, 30)]
    assert all(sorted(epoch) == list(range(15)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_order_follows_the_seed():
    assert list(sampler(seed=1)) == list(sampler(seed=1))
    assert [s.image for s in sampler(seed=1)] != [s.image for s in sampler(seed=2)]


def test_augmentation_seeds_do_not_repeat():
    assert max(Counter(each.seed for each in sampler(total=500)).values()) == 1


def test_resuming_goes_on_where_it_stopped():
    assert list(sampler(start=600)) == list(sampler())[600 * 8 :]


def test_a_sequence_goes_on_in_batches_of_another_size():
    first, rest = list(sampler(batch=8, total=10)), sampler(batch=5, total=6, first_position=80)
    assert first + list(rest) == list(sampler(batch=1, total=110))
    assert list(sampler(batch=5, start=4, total=6, first_position=80)) == list(rest)[4 * 5 :]
    ranks = [list(sampler(batch=5, total=6, first_position=80, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [each for pair in zip(*ranks, strict=True) for each in pair] == list(sampler(batch=1, total=140))[80:]


def test_processes_share_the_global_batch():
    whole = list(sampler(batch=8, total=10))
    ranks = [list(sampler(batch=4, total=10, rank=rank, world_size=2)) for rank in (0, 1)]
    for i in range(10):
        batch = [each for rank in ranks for each in rank[4 * i : 4 * i + 4]]
        assert sorted(batch) == sorted(whole[8 * i : 8 * i + 8])


def test_seeded_leaves_no_trace():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    before = get_rng_state()
    with seeded(3):
        first = (random.random(), np.random.rand(), torch.rand(1).item())
    with seeded(3):
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    set_rng_state(before)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


class Noise:
    """A dataset whose samples are drawn from all three generators."""

    def __init__(self):
        self.opt = {"name": "noise"}
        self.paths = [{"lq_path": f"lq/{i}.png", "gt_path": f"gt/{i}.png"} for i in range(4)]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 3:
            raise ValueError("Scale mismatches.", "sizes differ")
        return {"x": torch.tensor([random.random(), np.random.rand(), torch.rand(1).item(), index])}


def test_samples_do_not_depend_on_the_workers():
    def read(workers):
        order = sampler(size=3, batch=2, total=6)
        loader = torch.utils.data.DataLoader(GuardedDataset(Noise()), batch_size=2, sampler=order, num_workers=workers)
        return torch.cat([batch["x"] for batch in loader])

    assert torch.equal(read(0), read(2))


def test_no_lmdb_is_open_when_workers_fork(sr_data):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    roots = {f"dataroot_{key}": str(sr_data / "train" / name) for key, name in (("gt", "GT"), ("lq", "LR_bicubic_X4"))}
    roots = {key: f"{path}.lmdb" for key, path in roots.items()}
    opt = {"name": "train", "phase": "val", "scale": 4, "io_backend": {"type": "lmdb"}, **roots}
    dataset = GuardedDataset(PairedImageDataset(opt))
    first = dataset.first_sample()
    assert dataset.dataset.file_client is None
    loader = torch.utils.data.DataLoader(dataset, num_workers=2)
    assert torch.equal(next(iter(loader))["gt"][0], first["gt"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_names_the_file_in_one_line(workers):
    loader = torch.utils.data.DataLoader(GuardedDataset(Noise()), sampler=[3], num_workers=workers)
    with pytest.raises(UserError) as caught:
        next(iter(loader))
    assert str(caught.value) == ("dataset 'noise': cannot read lq/3.png, gt/3.png: Scale mismatches. sizes differ")


def test_an_image_that_cannot_be_decoded_is_named_as_such(tmp_path):
    png = bytearray(cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes())
    png[16:20] = bytes(4)  # a width of zero; the end is intact
    (tmp_path / "a.png").write_bytes(png)
    opt = {"name": "set", "dataroot_lq": str(tmp_path), "io_backend": {"type": "disk"}}
    with pytest.raises(UserError) as caught:
        GuardedDataset(SingleImageDataset(opt))[0]
    reason = "the image cannot be decoded; replace it or take it out"
    assert str(caught.value) == f"dataset 'set': cannot read {tmp_path}/a.png: {reason}"


@pytest.mark.parametrize("error", [AttributeError("astype"), AttributeError("x", name="y", obj=None), KeyError("z")])
def test_other_failures_keep_their_reason(error):
    class Failing(Noise):
        def __getitem__(self, index):
            raise error

    with pytest.raises(UserError, match=f": {error.args[0]}$"):
        GuardedDataset(Failing())[0]
