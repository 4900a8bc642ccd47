"""Options that people know from forks of BasicSR, and several folders where a dataset takes one."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from basicsr.utils.registry import DATASET_REGISTRY

from semanir_plugin.basicsr_host.data.joined_dataset import build_joined
from semanir_plugin.basicsr_host.engine.run import read_run_options
from semanir_plugin.basicsr_host.lr_schedulers import CosineAnnealingRestartCyclicLR, TrueCosineAnnealingLR
from semanir_plugin.cli import main

NETWORK = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}


@pytest.fixture
def recipe(tmp_path, photos, monkeypatch):
    """Two folders of pairs at x2, `a` of two and `b` of one; returns what writes an option file to train on them."""
    monkeypatch.chdir(tmp_path)
    for folder, names in {"a": ("coffee.png", "chelsea.png"), "b": ("astronaut.png",)}.items():
        for name in names:
            image = cv2.imread(str(photos[name]))[:48, 100:164]
            for side, pixels in (("gt", image), ("lq", image[::2, ::2])):
                Path(folder, side).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(f"{folder}/{side}/{name}", pixels)

    def write(**train):
        pairs = {"dataroot_gt": "a/gt", "dataroot_lq": "a/lq", "gt_size": 32, "batch_size_per_gpu": 2}
        train = {"type": "PairedImageDataset", "use_hflip": True, "use_rot": True, **pairs, **train}
        opt = {
            **{"name": "x", "model_type": "SRModel", "scale": 2, "num_gpu": 0, "manual_seed": 1, "network_g": NETWORK},
            "datasets": {"train": {key: value for key, value in train.items() if value is not None}},
            "train": {
                **{"total_iter": 6, "optim_g": {"type": "Adam", "lr": 1e-3}, "pixel_opt": {"type": "L1Loss"}},
                "scheduler": {
                    **{"type": "CosineAnnealingRestartCyclicLR", "periods": [2, 4]},
                    **{"restart_weights": [1, 1], "eta_mins": [5.0e-4, 1.0e-6]},
                },
            },
        }
        Path("x.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
        return "x.yml"

    return write


def trained():
    return torch.load("experiments/x/models/net_g_latest.pth", weights_only=True)["params"]


def test_restormers_options_train_as_ours(recipe):
    forks = {"geometric_augs": True, "mini_batch_sizes": [3, 1], "gt_sizes": [16, 32], "iters": [4, 2]}
    assert main(["train", "-opt", recipe(use_hflip=None, use_rot=None, **forks)]) == 0
    theirs = trained()
    ours = {"batch_sizes_per_gpu": [3, 1], "gt_sizes": [16, 32], "iters": [4, 2]}
    assert main(["train", "-opt", recipe(gt_size=None, batch_size_per_gpu=None, **ours)]) == 0
    assert all(torch.equal(theirs[name], weight) for name, weight in trained().items())


def read(path, *force_yml):
    return read_run_options(path, force_yml, is_train=True).data["datasets"]["train"]


def test_each_stands_for_options_of_ours(recipe):
    plain = read(recipe())
    assert read(recipe(use_hflip=None, use_flip=True)) == plain
    assert read(recipe(use_hflip=None, use_rot=None, geometric_augs=True)) == plain
    augmented = read(recipe(use_hflip=None, use_rot=None, geometric_augs=False))
    assert augmented == {**plain, "use_hflip": False, "use_rot": False}
    assert read(recipe(use_hflip=False, geometric_augs=True))["use_hflip"] is False, "what is BasicSR's comes first"


def test_what_is_wrong_is_told_at_its_own_line(recipe, capsys):
    assert main(["train", "-opt", recipe(use_hflip=None, use_flip="often", mini_batch_sizes=[2, 0])]) == 2
    err = capsys.readouterr().err
    lines = Path("x.yml").read_text().splitlines()
    assert f"x.yml:{lines.index('    use_flip: often') + 1}: datasets:train: use_hflip must be true or false" in err
    assert f"x.yml:{lines.index('    mini_batch_sizes:') + 1}: datasets:train: batch_sizes_per_gpu must be" in err


def test_a_dataset_that_reads_one_of_them_keeps_it(recipe, monkeypatch):
    class Flipping:
        def __init__(self, opt):
            self.flip = opt["use_flip"]

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Flipping", Flipping)
    section = read(recipe(type="Flipping", use_hflip=None, use_flip=True, geometric_augs=True))
    assert (section["use_flip"], section["use_hflip"]) == (True, True)
    assert "geometric_augs" not in section


def rates(make, count, lr=2.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, seen = make(optimizer), []
    for _ in range(count):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_the_cyclic_schedule_is_as_described():
    def make(optimizer):
        return CosineAnnealingRestartCyclicLR(optimizer, [3, 5], [1, 0.5], [0.3, 0.001])

    expected = [0.3 + 0.5 * 1.7 * (1 + math.cos(math.pi * t / 3)) for t in range(3)]
    expected += [0.001 + 0.25 * 1.999 * (1 + math.cos(math.pi * t / 5)) for t in range(5)]
    assert rates(make, 10) == pytest.approx([*expected, 0.001, 0.001])


def test_a_single_period_is_torchs_cosine():
    def make(optimizer):
        return CosineAnnealingRestartCyclicLR(optimizer, [7], [1], [0.1])

    torchs = rates(lambda optimizer: TrueCosineAnnealingLR(optimizer, T_max=7, eta_min=0.1), 7)
    assert rates(make, 7) == pytest.approx(torchs)


def test_its_lists_are_of_one_length(recipe, capsys):
    recipe()
    assert main(["train", "-opt", "x.yml", "--force_yml", "train:scheduler:eta_mins=[0.1]"]) == 2
    assert "need one entry per period each, not 2, 2 and 1" in capsys.readouterr().err


LISTS = {"dataroot_gt": ["a/gt", "b/gt"], "dataroot_lq": ["a/lq", "b/lq"]}


def test_several_folders_are_read_as_one(recipe, capsys):
    assert main(["train", "-opt", recipe(**LISTS)]) == 0
    assert "Training on 3 images" in capsys.readouterr().err
    opt = {**LISTS, "type": "PairedImageDataset", "phase": "val", "scale": 2, "name": "x"}
    opt["io_backend"] = {"type": "disk"}
    joined = build_joined(opt)
    singles = [build_joined({**opt, "dataroot_gt": f"{each}/gt", "dataroot_lq": f"{each}/lq"}) for each in "ab"]
    assert joined.paths == [path for single in singles for path in single.paths]
    for index, sample in enumerate(sample for single in singles for sample in (single[i] for i in range(len(single)))):
        assert torch.equal(joined[index]["gt"], sample["gt"])
        assert joined[index]["lq_path"] == sample["lq_path"]


def test_several_lmdbs_are_read_as_one(recipe, capsys):
    for folder in "ab":
        outputs = [f"{folder}/gt.lmdb", f"{folder}/lq.lmdb"]
        assert main(["prepare", "lmdb", "-i", f"{folder}/gt", f"{folder}/lq", "-o", *outputs, "--scale", "2"]) == 0
    lists = {key: [f"{each}.lmdb" for each in roots] for key, roots in LISTS.items()}
    assert main(["train", "-opt", recipe(io_backend={"type": "lmdb"}, num_worker_per_gpu=2, **lists)]) == 0
    assert "Training on 3 images" in capsys.readouterr().err


def test_clean_images_come_from_several_folders_too(recipe, capsys):
    assert (
        main(["train", "-opt", recipe(type="BicubicSRDataset", dataroot_gt=LISTS["dataroot_gt"], dataroot_lq=None)])
        == 0
    )
    assert "Training on 3 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        (
            {"dataroot_lq": ["a/lq"]},
            "lists of folders need one entry for each, but dataroot_gt has 2, dataroot_lq has 1",
        ),
        (
            {"dataroot_lq": "a/lq"},
            "lists of folders need one entry for each, but dataroot_gt has 2, dataroot_lq is no list",
        ),
        ({"dataroot_gt": [], "dataroot_lq": []}, "lists of folders need one entry for each, but dataroot_gt has 0"),
        ({"dataroot_lq": ["a/lq", 3]}, "dataroot_lq must be a string or a list of strings"),
        ({"dataroot_lq": ["a/lq", "c/lq"]}, "no such folder: c/lq"),
        ({"dataroot_lq": ["a/lq", "a/lq"]}, "GT without LQ: no astronaut.png for astronaut.png in a/lq"),
    ],
)
def test_lists_that_do_not_fit_together(recipe, lists, told, capsys):
    assert main(["train", "-opt", recipe(**{**LISTS, **lists})]) == 2
    assert told in capsys.readouterr().err


def test_images_are_scored_from_one_folder(recipe, capsys):
    recipe()
    val = "{type: PairedImageDataset, dataroot_gt: [a/gt, b/gt], dataroot_lq: [a/lq, b/lq]}"
    assert main(["train", "-opt", "x.yml", "--force_yml", f"datasets:val={val}", "val:val_freq=2"]) == 2
    assert "datasets:val: dataroot_gt must be a string, not ['a/gt', 'b/gt']" in capsys.readouterr().err
