"""Images that validation and testing save: each is a file of its own, or nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from semanir_plugin.cli import main
from tests.test_atomic_io import files_of_at_most

NETWORK = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Images `in/0.png`, `in/sub/0.png` and `in/0.bmp`; returns what trains, or tests, with sets of some of them."""
    monkeypatch.chdir(tmp_path)
    for folder, side in (("in", 16), ("gt", 32)):
        for name in ("0.png", "1.png", "sub/0.png"):
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((side, side, 3), np.uint8))

    def run(command, sets, model="SemanIRModel", **val):
        pairs = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "in"}
        train = {**pairs, "gt_size": 32, "use_hflip": False, "use_rot": False, "batch_size_per_gpu": 1}
        phase = "val" if command == "train" else "test"
        scored = {f"{phase}_{name}": {**pairs, "name": name, **options} for name, options in sets.items()}
        opt = {
            **{"name": "x", "model_type": model, "scale": 2, "num_gpu": 0, "network_g": NETWORK},
            "datasets": {**({"train": train} if command == "train" else {}), **scored},
            "train": {
                **{"total_iter": 2, "optim_g": {"type": "Adam", "lr": 1e-3}, "pixel_opt": {"type": "L1Loss"}},
                "scheduler": {"type": "MultiStepLR", "milestones": [9]},
            },
            "val": {"val_freq": 2, "save_img": True, **val},
        }
        Path("x.yml").write_text(yaml.safe_dump(opt))
        return main([command, "-opt", "x.yml"])

    return run


def saved(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.png"))


def test_a_single_set_is_saved_as_basicsr_does(run):
    assert run("train", {"A": {}}) == 0
    assert saved("experiments/x/visualization") == ["0/0_2.png", "1/1_2.png"]


def test_sets_of_the_same_images_are_told_apart(run):
    assert run("train", {"A": {}, "B": {}}) == 0
    assert saved("experiments/x/visualization") == ["0/0_A_2.png", "0/0_B_2.png", "1/1_A_2.png", "1/1_B_2.png"]


def test_a_model_of_basicsr_is_refused_where_it_would_overwrite(run, capsys):
    assert run("train", {"A": {}, "B": {}}, model="SRModel") == 2
    err = capsys.readouterr().err
    assert "val.save_img: the results of in/0.png of 'A' and in/0.png of 'B' would be one file: take model_type" in err
    assert not Path("experiments").exists()
    assert run("train", {"A": {}, "B": {}}, model="SRModel", save_img=False) == 0


def test_tests_have_a_folder_for_each_set(run):
    assert run("test", {"A": {}, "B": {}}, model="SRModel") == 0
    assert saved("results/x/visualization") == ["A/0_x.png", "A/1_x.png", "B/0_x.png", "B/1_x.png"]


@pytest.mark.parametrize("command", ["train", "test"])
@pytest.mark.parametrize("model", ["SRModel", "SemanIRModel"])
def test_images_of_one_name_in_a_set_are_refused(run, command, model, capsys):
    Path("list.txt").write_text("0.png\n1.png\nsub/0.png\n")
    single = {"type": "SingleImageDataset", "dataroot_lq": "in", "meta_info_file": "list.txt", "dataroot_gt": None}
    assert run(command, {"A": single}, model=model) == 2
    told = "the results of in/0.png of 'A' and in/sub/0.png of 'A' would be one file: rename one, or set val.save_img"
    assert told in capsys.readouterr().err


def test_formats_do_not_tell_images_apart(run, capsys):
    cv2.imwrite("in/0.bmp", np.zeros((16, 16, 3), np.uint8))
    single = {"type": "SingleImageDataset", "dataroot_lq": "in", "dataroot_gt": None}
    assert run("test", {"A": single}) == 2
    assert "the results of in/0.bmp of 'A' and in/0.png of 'A' would be one file" in capsys.readouterr().err


@pytest.mark.parametrize(("save_img", "told"), [(True, "0_x.png"), (False, "metrics.json")])
def test_a_full_disk_leaves_no_part_of_a_result(run, save_img, told, monkeypatch, capsys):
    for folder, side in (("in", 64), ("gt", 128)):
        for name in ("0.png", "1.png"):
            noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
            cv2.imwrite(f"{folder}/{name}", noise)
    dumps = json.dumps  # by which the report alone has an indent
    long = {2: " " * 20_000}
    monkeypatch.setattr(
        json, "dumps", lambda each, **options: dumps(each, **options) + long.get(options.get("indent"), "")
    )
    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": 0}}
    with files_of_at_most(15_000):  # of which logs take a part
        assert run("test", {"A": {}}, metrics=metrics, save_img=save_img) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert f"{told}: cannot be written: File too large; make room or choose another path.results_root" in err
    assert not list(Path("results").rglob(told))
    assert not list(Path("results").rglob(".*.tmp"))
