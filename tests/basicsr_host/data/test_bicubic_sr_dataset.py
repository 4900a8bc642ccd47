from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from torch.nn.functional import interpolate

from semanir_plugin.basicsr_host.data import bicubic_sr_dataset
from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.pairing import find_images
from semanir_plugin.basicsr_host.data.sampler import SeededIndex
from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs
from semanir_plugin.errors import UserError

TRAIN = {"phase": "train", "gt_size": 24, "use_hflip": True, "use_rot": True}


@pytest.fixture
def folder(tmp_path, photos):
    folder = tmp_path / "HR"
    folder.mkdir()
    for name in ("coffee.png", "astronaut.png"):
        cv2.imwrite(str(folder / name), cv2.imread(str(photos[name]))[50:111, 100:186])
    return folder


@pytest.fixture
def build(folder):
    def build(scale=4, **options):
        opt = {"name": "x", "phase": "val", "dataroot_gt": str(folder), "io_backend": {"type": "disk"}, "scale": scale}
        return build_dataset({**opt, "type": "BicubicSRDataset", **options})

    return build


@pytest.fixture
def made(monkeypatch):
    """The shapes of the images that were downsampled."""
    shapes, downsample = [], bicubic_sr_dataset.downsample_bicubic
    monkeypatch.setattr(
        bicubic_sr_dataset, "downsample_bicubic", lambda gt, *how: shapes.append(gt.shape) or downsample(gt, *how)
    )
    return shapes


def same(first, second):
    return torch.equal(first["lq"], second["lq"]) and torch.equal(first["gt"], second["gt"])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("cached", "bicubic"), [(False, "matlab"), (True, "matlab"), (True, "basicsr")])
def test_pairs_are_those_that_would_be_written(build, folder, tmp_path, scale, cached, bicubic):
    write_sr_pairs(find_images(folder), tmp_path, scale, bicubic=bicubic)
    roots = {"dataroot_gt": str(tmp_path / "GT"), "dataroot_lq": str(tmp_path / f"LR_bicubic_X{scale}")}
    written = build(scale, type="PairedImageDataset", **roots)
    pairs = sorted((written[index] for index in range(2)), key=lambda pair: pair["gt_path"])
    for _ in range(2 if cached else 1):
        dataset = build(scale, lq_cache=str(tmp_path / "cache") if cached else None, bicubic=bicubic)
        assert all(same(dataset[index], pairs[index]) for index in (0, 1, 0))


def test_lr_is_made_once_in_memory(build, made):
    dataset = build(**TRAIN)
    for _ in range(3):
        dataset[0], dataset[1]
    assert made == [(60, 84, 3)] * 2


def test_augmentation_leaves_the_memory_alone(build):
    dataset = GuardedDataset(build(**TRAIN))
    for seed in range(20):
        dataset[SeededIndex(0, seed)]
    fresh = GuardedDataset(build(**TRAIN))
    assert all(same(dataset[SeededIndex(0, seed)], fresh[SeededIndex(0, seed)]) for seed in range(5))


def test_a_cache_lasts_and_follows_the_file(build, folder, tmp_path, made):
    cache = tmp_path / "deep" / "cache"
    first = build(lq_cache=str(cache))[0]
    assert same(build(lq_cache=str(cache))[0], first)
    assert len(made) == 1
    (file,) = cache.iterdir()
    assert file.name.startswith("astronaut_")
    assert file.name.endswith("x4_matlab.png")
    build(2, lq_cache=str(cache))[0]
    (folder / "astronaut.png").write_bytes((folder / "coffee.png").read_bytes())
    changed = build(lq_cache=str(cache))[0]
    assert same(changed, build()[0])
    assert not same(changed, first)
    assert len(list(cache.iterdir())) == 3


def test_one_cache_holds_images_that_are_made_otherwise(build, tmp_path):
    ways = [{}, {"bicubic": "basicsr"}, {"multiple_of": 12}, {"multiple_of": 12, "bicubic": "basicsr"}]
    for _ in range(2):
        for way in ways:
            cached, fresh = build(2, lq_cache=str(tmp_path / "cache"), **way)[0], build(2, **way)[0]
            assert same(cached, fresh)
            assert cached["gt"].shape[1:] == ((60, 84) if "multiple_of" in way else (60, 86))
    assert len(list((tmp_path / "cache").iterdir())) == len(ways)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_entry_is_made_anew(build, tmp_path, content):
    first = build(lq_cache=str(tmp_path / "cache"))[0]
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(content or whole[: len(whole) // 2])
    assert same(build(lq_cache=str(tmp_path / "cache"))[0], first)
    assert file.read_bytes() == whole


def test_a_crash_leaves_no_half_an_entry(build, tmp_path, monkeypatch):
    def crash(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(UserError, match=f"{tmp_path}/cache: lq_cache cannot be written: No space left on device; choo"):
        GuardedDataset(build(lq_cache=str(tmp_path / "cache")))[0]
    assert not list((tmp_path / "cache").iterdir())


def test_many_readers_at_once(build, tmp_path):
    expected = build()[1]
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(lambda _: build(lq_cache=str(tmp_path / "cache"))[1], range(16)))
    assert all(same(sample, expected) for sample in samples)


def test_the_ground_truth_is_no_cache(build, folder):
    with pytest.raises(ValueError, match="lq_cache is the folder of the ground truth"):
        build(lq_cache=f"{folder}/../HR")


@pytest.mark.parametrize("cached", [False, True])
def test_patches_are_cut_from_the_lr_of_the_whole_image(build, tmp_path, cached):
    """A flat image but for one white block of the scale's size: LR and GT patch show it at the same place."""
    pixels = np.zeros((64, 80, 3), np.uint8)
    pixels[28:32, 36:40] = 255
    cv2.imwrite(str(tmp_path / "HR" / "astronaut.png"), pixels)
    dataset = GuardedDataset(build(lq_cache=str(tmp_path / "cache") if cached else None, **{**TRAIN, "gt_size": 48}))
    places = set()
    for seed in range(20):
        sample = dataset[SeededIndex(0, seed)]
        assert sample["lq"].shape == (3, 12, 12)
        assert sample["gt"].shape == (3, 48, 48)
        block = interpolate((sample["lq"] > 0.5).float()[None], scale_factor=4)[0]
        assert torch.equal(block, sample["gt"])
        places.add(tuple(sample["lq"][0].argmax(dim=1).tolist()))
    assert len(places) > 5
