"""Test the common behaviour of all datasets that degrade clean images on the fly."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.utils.lmdb_util import LmdbMaker
from PIL import Image

from semanir_plugin.basicsr_host.data import JPEGDataset
from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import IterationSampler, SeededIndex
from semanir_plugin.errors import UserError

TASKS = {
    "noise": {"type": "GaussianNoiseDataset", "sigma": 25},
    "gray noise": {"type": "GaussianNoiseDataset", "sigma": 25, "num_channels": 1},
    "jpeg": {"type": "JPEGDataset", "quality": 10},
    "gray jpeg": {"type": "JPEGDataset", "quality": 10, "num_channels": 1},
    "demosaic": {"type": "DemosaicDataset"},
    "bicubic": {"type": "BicubicSRDataset", "scale": 2},
    "real": {"type": "RealWorldDataset", "scale": 1, "stages": {"a": {"prob": 0.5}, "b": {}}, "drawing_prob": 0},
    "mixed": {"type": "MixedDegradationDataset", "degradations": {"haze": {"beta": 1}}},
}
RANDOM_TASKS = {
    "noise": {"type": "GaussianNoiseDataset", "sigma": [0, 50]},
    "jpeg": {"type": "JPEGDataset", "quality": [10, 90]},
    "demosaic": {"type": "DemosaicDataset"},
    "bicubic": {"type": "BicubicSRDataset", "scale": 2},
    "real": {"type": "RealWorldDataset", "scale": 2, "stages": {"a": {"prob": 0.5}, "b": {}}, "drawing_prob": 0},
    "mixed": {
        "type": "MixedDegradationDataset",
        "degradations": {
            **{"noise": {"sigma": [0, 50]}, "rain": {"amount": [1, 4]}, "haze": {"beta": [0.5, 2]}, "clean": {}},
            **{"low_light": {"exposure": [0.1, 0.5]}, "motion_blur": {"length": [3, 9], "quality": [10, 90]}},
        },
    },
}
TRAIN = {"phase": "train", "gt_size": 16, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 2}


@pytest.fixture
def folder(tmp_path, photos):
    folder = tmp_path / "clean"
    folder.mkdir()
    for number, path in enumerate(photos.values()):
        cv2.imwrite(str(folder / f"{path.stem}.png"), cv2.imread(str(path))[50 : 81 + number, 100:141])
    return folder


@pytest.fixture
def build(folder):
    def build(task, **changes):
        opt = {"name": "clean", "phase": "val", "dataroot_gt": str(folder), "io_backend": {"type": "disk"}, **task}
        return build_dataset({**opt, **changes})

    return build


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in ("lq", "gt"))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_samples_have_the_form_of_paired_ones(build, folder, task):
    dataset = build(task)
    channels, scale = task.get("num_channels", 3), task.get("scale", 1)
    assert len(dataset) == 4
    for index, path in enumerate(sorted(folder.iterdir())):
        sample = dataset[index]
        height, width = (size // scale for size in cv2.imread(str(path)).shape[:2])
        assert sample["gt"].shape == (channels, height * scale, width * scale)
        assert sample["lq"].shape == (channels, height, width)
        assert sample["lq"].dtype == sample["gt"].dtype == torch.float32
        assert sample["lq_path"] == sample["gt_path"] == str(path)
        assert not torch.equal(sample["lq"], sample["gt"])


def test_tensors_are_rgb(build, folder):
    rgb = np.asarray(Image.open(sorted(folder.iterdir())[0])).transpose(2, 0, 1)
    for task in (TASKS["noise"], TASKS["jpeg"], TASKS["demosaic"]):
        np.testing.assert_allclose(build(task)[0]["gt"].numpy(), rgb / 255, atol=1e-6)
    red, green = (build(TASKS["demosaic"])[0]["lq"].numpy()[channel] for channel in (0, 1))
    np.testing.assert_allclose(red[::2, ::2], rgb[0, ::2, ::2] / 255, atol=1e-6)
    np.testing.assert_allclose(green[::2, 1::2], rgb[1, ::2, 1::2] / 255, atol=1e-6)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("workers", [0, 2])
def test_validation_is_the_same_whatever_was_drawn_and_whoever_reads(build, task, workers):
    first = [build(task)[index] for index in range(4)]
    np.random.normal(size=100), random.random(), torch.rand(3)
    loader = torch.utils.data.DataLoader(build(task), batch_size=None, num_workers=workers)
    assert all(same(*pair) for pair in zip(first, loader, strict=True))
    state = np.random.get_state()[2], random.getstate()
    build(task)[0]
    assert (np.random.get_state()[2], random.getstate()) == state


def read_batches(dataset, workers, seed=3, start=0):
    opt = {"phase": "train", "batch_size_per_gpu": 2, "num_worker_per_gpu": workers}
    sampler = IterationSampler(len(dataset), batch_size=2, start_iter=start, total_iter=6, seed=seed)
    return list(build_dataloader(GuardedDataset(dataset), opt, num_gpu=0, sampler=sampler, seed=seed))


@pytest.mark.parametrize("task", RANDOM_TASKS.values(), ids=RANDOM_TASKS)
def test_training_follows_the_seed_and_not_the_workers(build, task):
    batches = read_batches(build(task, **TRAIN), workers=0)
    for again in (read_batches(build(task, **TRAIN), workers=2), read_batches(build(task, **TRAIN), workers=0)):
        assert all(same(*pair) for pair in zip(batches, again, strict=True))
    resumed = read_batches(build(task, **TRAIN), workers=0, start=4)
    assert all(same(*pair) for pair in zip(batches[4:], resumed, strict=True))
    other = read_batches(build(task, **TRAIN), workers=0, seed=4)
    assert not any(same(*pair) for pair in zip(batches, other, strict=True))


def views(patch):
    """The eight ways to flip and rotate (C, H, W)."""
    flipped = (patch, patch.flip(1), patch.flip(2), patch.flip(1, 2))
    return [*flipped, *(each.transpose(1, 2) for each in flipped)]


def find(patch, image):
    """The corners at which a patch, in one of its views, lies in an image."""
    windows = image.unfold(1, patch.shape[1], 1).unfold(2, patch.shape[2], 1)  # (C, y, x, h, w)
    return [
        (number, *corner)
        for number, view in enumerate(views(patch))
        for corner in (windows == view[:, None, None]).all(-1).all(-1).all(0).nonzero().tolist()
    ]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_patches_are_crops_flipped_and_rotated(build, task):
    train, whole = GuardedDataset(build(task, **TRAIN)), build(task)[0]["gt"]
    found = [find(train[SeededIndex(0, seed)]["gt"], whole) for seed in range(40)]
    assert all(len(each) == 1 for each in found)
    assert {number for ((number, *_),) in found} == set(range(8))
    assert len({(y, x) for ((_, y, x),) in found}) > 20


@pytest.mark.parametrize(("flip", "rotate", "expected"), [(False, False, {0}), (True, False, {0, 2}), (False, True, 4)])
def test_flips_and_rotations_are_options(build, flip, rotate, expected):
    options = {**TRAIN, "use_hflip": flip, "use_rot": rotate}
    train, whole = GuardedDataset(build(TASKS["gray jpeg"], **options)), build(TASKS["gray jpeg"])[0]["gt"]
    found = {find(train[SeededIndex(0, seed)]["gt"], whole)[0][0] for seed in range(20)}
    assert found == expected or len(found) == expected


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_lmdbs_give_what_folders_give(build, folder, task, tmp_path):
    maker = LmdbMaker(str(tmp_path / "clean.lmdb"), map_size=1 << 22)
    for path in sorted(folder.iterdir()):
        maker.put(path.read_bytes(), path.stem, cv2.imread(str(path)).shape)
    maker.close()
    options = {"dataroot_gt": str(tmp_path / "clean.lmdb"), "io_backend": {"type": "lmdb"}}
    files, entries = build(task), build(task, **options)
    assert entries.paths == ["astronaut", "chelsea", "coffee", "rocket"]
    assert all(same(files[index], entries[index]) for index in range(4))
    entries.file_client = None
    assert same(files[3], entries[3])


@pytest.mark.parametrize("task", ["noise", "real", "mixed"])
def test_degradations_to_score_follow_from_pixels_and_not_from_names_or_places(build, folder, task):
    """As the test above tells of LMDBs."""
    rocket = build(TASKS[task])[3]
    (folder / "rocket.png").rename(folder / "a.png")
    assert same(build(TASKS[task])[0], rocket)


def test_options_are_left_as_they_are(tmp_path):
    maker = LmdbMaker(str(tmp_path / "clean.lmdb"), map_size=1 << 20)
    maker.put(cv2.imencode(".png", np.zeros((5, 7, 3), np.uint8))[1].tobytes(), "a", (5, 7, 3))
    maker.close()
    opt = {"phase": "val", "dataroot_gt": f"{tmp_path}/clean.lmdb", "io_backend": {"type": "lmdb"}, "quality": 10}
    for _ in range(2):
        assert JPEGDataset(opt)[0]["gt"].shape == (3, 5, 7)
    assert opt["io_backend"] == {"type": "lmdb"}


def test_a_list_of_images(build, tmp_path):
    (tmp_path / "meta.txt").write_text("rocket.png (34,41,3)\nchelsea.png (32,41,3)\n")
    dataset = build(TASKS["jpeg"], meta_info_file=str(tmp_path / "meta.txt"))
    assert [path.rpartition("/")[2] for path in dataset.paths] == ["rocket.png", "chelsea.png"]
    assert same(dataset[1], build(TASKS["jpeg"], meta_info_file=None)[1])


def write_odd_files(folder):
    for path in folder.iterdir():
        path.unlink()
    pixels = np.random.default_rng(0).integers(0, 65536, (17, 15, 4), dtype=np.uint16)
    files = {
        **{"gray": pixels[..., 0].astype(np.uint8), "colour": pixels[..., :3].astype(np.uint8)},
        **{"deep": pixels[..., :3], "deep_gray": pixels[..., 0], "alpha": pixels.astype(np.uint8)},
    }
    for name, image in files.items():
        cv2.imwrite(str(folder / f"{name}.png"), image)
    return sorted(files)


@pytest.mark.parametrize("phase", ["train", "val"])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_odd_files_are_read(build, folder, task, phase):
    names = write_odd_files(folder)
    dataset = GuardedDataset(build(task, **{**TRAIN, "phase": phase, "gt_size": 12}))
    for index in range(len(names)):
        sample = dataset[index]
        assert sample["gt"].shape[0] == sample["lq"].shape[0] == task.get("num_channels", 3)
        assert sample["gt"].isfinite().all()
        assert 0 <= sample["gt"].min() < 0.2 < 0.8 < sample["gt"].max() <= 1


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_images_smaller_than_a_patch_are_named_in_one_line(build, folder, task):
    cv2.imwrite(str(folder / "a.png"), np.zeros((14, 40, 3), np.uint8))
    with pytest.raises(
        UserError, match=rf"dataset 'clean': cannot read {folder}/a\.png: .*smaller than patch"
    ) as error:
        GuardedDataset(build(task, **TRAIN))[0]
    assert "\n" not in str(error.value)


def test_unreadable_files_are_named_in_one_line(build, folder):
    (folder / "a.png").write_text("no image")
    with pytest.raises(UserError, match=rf"cannot read {folder}/a\.png: the image cannot be decoded; replace it"):
        GuardedDataset(build(TASKS["jpeg"]))[0]


WRONG = {
    "sigma must lie from 0 to 255, not -1": ("GaussianNoiseDataset", {"sigma": -1}),
    "sigma must lie from 0 to 255, not nan": ("GaussianNoiseDataset", {"sigma": float("nan")}),
    "sigma must lie from 0 to 255, not [0, 256]": ("GaussianNoiseDataset", {"sigma": [0, 256]}),
    "sigma must be one number or [low, high], not [5, 1]": ("GaussianNoiseDataset", {"sigma": [5, 1]}),
    "sigma must be one number or [low, high], not [5]": ("GaussianNoiseDataset", {"sigma": [5]}),
    "noise_seed must be from 0 to 2**32 - 1, not -1": ("GaussianNoiseDataset", {"sigma": 5, "noise_seed": -1}),
    "quality must lie from 1 to 100, not 0": ("JPEGDataset", {"quality": 0}),
    "quality must lie from 1 to 100, not [10, 101]": ("JPEGDataset", {"quality": [10, 101]}),
}


@pytest.mark.parametrize(("told", "options"), WRONG.items(), ids=WRONG)
def test_values_that_cannot_be_right(build, told, options):
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared as a whole
        build({"type": options[0], **options[1]}, **TRAIN)
    assert str(error.value) == told


def test_scores_need_one_strength(build):
    told = r"sigma must be one number where images are scored, not \[0, 50\]; add a dataset for each"
    with pytest.raises(ValueError, match=told):
        build(RANDOM_TASKS["noise"])
    with pytest.raises(ValueError, match="quality must be one number where images are scored"):
        build(RANDOM_TASKS["jpeg"], phase="test")
