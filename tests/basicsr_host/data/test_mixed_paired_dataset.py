from __future__ import annotations

import pickle
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.utils.lmdb_util import LmdbMaker

from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import IterationSampler
from semanir_plugin.errors import UserError


@pytest.fixture
def build(tmp_path):
    """Build a mixture of the given numbers of pairs; the value of all pixels tells the source, LQ being one more."""

    def build(weights=None, template="{}", **changes):
        sources = {}
        for value, (name, count) in enumerate({"snow": 2, "rain": 6, "fog": 3}.items()):
            for side, folder in enumerate(("gt", "lq")):
                root = tmp_path / name / folder
                root.mkdir(parents=True, exist_ok=True)
                for index in range(count):
                    stem = template.format(index) if side and name == "rain" else index
                    cv2.imwrite(str(root / f"{stem}.png"), np.full((20, 24, 3), 50 * value + side, np.uint8))
                sources.setdefault(name, {})[f"dataroot_{folder}"] = str(root)
        for name, weight in (weights or {}).items():
            sources[name]["weight"] = weight
        if template != "{}":
            sources["rain"]["filename_tmpl"] = template
        sources["drizzle"] = None
        opt = {"name": "weather", "type": "MixedPairedDataset", "io_backend": {"type": "disk"}, "phase": "train"}
        patches = {"scale": 1, "gt_size": 8, "use_hflip": True, "use_rot": True}
        return build_dataset({**opt, **patches, "sources": sources, **changes})

    return build


def count(dataset):
    return Counter(path["gt_path"].rsplit("/", 3)[1] for path in dataset.paths)


def test_samples_are_those_of_their_sources(build):
    dataset = build(template="{}_in")
    for index, path in enumerate(dataset.paths):
        sample = dataset[index]
        value = 50 * ["snow", "rain", "fog"].index(path["gt_path"].rsplit("/", 3)[1])
        assert sample["gt_path"] == path["gt_path"]
        assert sample["lq_path"] == path["lq_path"]
        torch.testing.assert_close(sample["gt"], torch.full((3, 8, 8), value / 255))
        torch.testing.assert_close(sample["lq"], torch.full((3, 8, 8), (value + 1) / 255))


def test_without_weights_each_pair_is_read_once(build):
    dataset = build()
    paths = [path["gt_path"].rsplit("/", 3)[1:] for path in dataset.paths]
    counts = {"snow": 2, "rain": 6, "fog": 3}
    assert paths == [[name, "gt", f"{index}.png"] for name, count in counts.items() for index in range(count)]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"snow": 1, "rain": 1, "fog": 1}, {"snow": 6, "rain": 6, "fog": 6}),
        ({"snow": 2, "rain": 1, "fog": 1}, {"snow": 12, "rain": 6, "fog": 6}),
        ({"snow": 0.5, "rain": 3.0, "fog": 0.5}, {"snow": 3, "rain": 18, "fog": 3}),
        ({"snow": 3, "rain": 10, "fog": 1}, {"snow": 9, "rain": 30, "fog": 3}),
    ],
)
def test_weights_are_shares_and_no_pair_is_left_out(build, weights, expected):
    dataset = build(weights)
    assert count(dataset) == expected
    times = Counter(path["gt_path"] for path in dataset.paths)
    assert len(times) == 11
    for name in expected:
        of_source = [number for path, number in times.items() if f"/{name}/" in path]
        assert max(of_source) - min(of_source) <= 1


def test_the_order_follows_the_seed_whatever_the_workers(build):
    def read(workers):
        dataset = GuardedDataset(build({"snow": 2, "rain": 1, "fog": 1}))
        opt = {"phase": "train", "batch_size_per_gpu": 3, "num_worker_per_gpu": workers}
        sampler = IterationSampler(len(dataset), batch_size=3, start_iter=0, total_iter=8, seed=1)
        loader = build_dataloader(dataset, opt, num_gpu=0, sampler=sampler, seed=1)
        return [path for batch in loader for path in batch["gt_path"]]

    paths = read(0)
    assert paths == read(2)
    assert Counter(path.rsplit("/", 3)[1] for path in paths) == {"snow": 12, "rain": 6, "fog": 6}


def test_lmdbs_are_opened_by_each_process_and_closed_before_a_fork(build, tmp_path):
    sources = {}
    for name in ("snow", "rain"):
        for side in ("gt", "lq"):
            maker = LmdbMaker(str(tmp_path / f"{name}_{side}.lmdb"), map_size=1 << 20)
            maker.put(cv2.imencode(".png", np.zeros((20, 24, 3), np.uint8))[1].tobytes(), "a", (20, 24, 3))
            maker.close()
            sources.setdefault(name, {})[f"dataroot_{side}"] = str(tmp_path / f"{name}_{side}.lmdb")
    dataset = build(io_backend={"type": "lmdb"}, sources=sources)
    assert dataset.opt["io_backend"] == {"type": "lmdb"}
    assert GuardedDataset(dataset).first_sample()["gt"].shape == (3, 8, 8)
    assert dataset.file_client == [None, None]
    assert len(list(torch.utils.data.DataLoader(dataset, num_workers=2))) == 2
    assert len(pickle.loads(pickle.dumps(dataset))) == 2  # as a spawned worker gets it


def test_a_file_that_cannot_be_read_is_named(build, tmp_path):
    dataset = GuardedDataset(build())
    (tmp_path / "rain" / "lq" / "1.png").write_bytes(b"")
    index = next(index for index, path in enumerate(dataset.dataset.paths) if path["lq_path"].endswith("rain/lq/1.png"))
    with pytest.raises(UserError, match=r"rain/lq/1\.png"):
        dataset[index]


def test_a_source_may_be_clean_images_that_get_noise(build, tmp_path):
    roots = {side: str(tmp_path / "rain" / side) for side in ("gt", "lq")}
    build()
    sources = {
        "rain": {"dataroot_gt": roots["gt"], "dataroot_lq": roots["lq"], "weight": 1},
        "noise": {"dataroot_gt": roots["gt"], "sigma": [20, 40], "weight": 2},
    }
    dataset = GuardedDataset(build(sources=sources))
    assert len(dataset) == 18
    for index in range(18):
        sample = dataset[index]
        noise = (sample["lq"] - sample["gt"]) * 255
        torch.testing.assert_close(sample["gt"], torch.full((3, 8, 8), 50 / 255))
        assert sample["gt_path"].startswith(roots["gt"])
        if index < 6:
            torch.testing.assert_close(noise, torch.ones(3, 8, 8))
        else:
            assert 10 < noise.std() < 50
            torch.testing.assert_close(noise, noise.round())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"phase": "val"}, "MixedPairedDataset is for training; to score, make each source a dataset of its own"),
        ({"sources": {}}, "sources is empty: add one"),
        ({"sources": {"snow": None}}, "sources is empty: add one"),
        ({"sources": {"a": {"dataroot_gt": "x"}}}, "sources: a: give either dataroot_lq or, for noise, sigma"),
        ({"sources": {"a": {"dataroot_gt": "x", "dataroot_lq": "y", "sigma": 5}}}, "sources: a: give either"),
        ({"sources": {"a": {"dataroot_gt": "x", "sigma": [9, 300]}}}, "sources: a: sigma must lie from 0 to 255"),
        ({"weights": {"snow": 1}}, "give a weight to every source or to none"),
        ({"weights": {"snow": 1, "rain": 1, "fog": 0}}, r"every weight must be above 0, not \[1, 1, 0\]"),
        ({"weights": {"snow": 1, "rain": 1, "fog": float("inf")}}, "every weight must be above 0"),
    ],
)
def test_what_cannot_be_right(build, changes, told):
    with pytest.raises(ValueError, match=told):
        build(**changes)
