"""Each of BasicSR's models trains, validates, is killed, resumes to the same weights, and is tested."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from basicsr.utils.registry import MODEL_REGISTRY

from semanir_plugin.cli import main
from tests.basicsr_host.engine.stock_models import REDS4, STOCK, write_stock_data


@pytest.fixture(scope="module")
def stock_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock_data")
    write_stock_data(folder)
    return folder


NIQE = {"niqe": {"type": "calculate_niqe", "crop_border": 0}}


def test_every_model_of_basicsr_is_trained_here():
    theirs = {name for name, model in MODEL_REGISTRY if model.__module__.startswith("basicsr.")}
    assert {name.removesuffix("_basicsr") for name in theirs} == set(STOCK)


@pytest.fixture(params=STOCK)
def run(request, stock_data, tmp_path, monkeypatch):
    """The folder of a model's run; its options are in `options.yml`, in the working directory."""
    folder(STOCK[request.param], stock_data, tmp_path, monkeypatch)
    return Path("experiments", request.param)


def folder(options, stock_data, tmp_path, monkeypatch):
    """Make a folder with the data and `options.yml` the working directory."""
    for path in stock_data.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    Path("options.yml").write_text(yaml.safe_dump(options))


@pytest.mark.parametrize(
    ("model", "change", "reason"),
    [
        ("SRGANModel", {"network_d": None}, "missing 'network_d': add it"),
        ("SRGANModel", {"train:gan_opt": None}, "train: missing 'gan_opt': add it"),
        ("StyleGAN2Model", {"train:mixing_prob": None}, "train: missing 'mixing_prob': add it"),
        ("RealESRGANModel", {"train:ema_decay": 0}, "ldl_opt compares with the average of the weights: set ema_decay"),
        ("RealESRNetModel", {"gt_size": None, "noise_range2": None}, "missing 'gt_size', 'noise_range2': add them"),
        ("VideoRecurrentGANModel", {"train:lr_flow": None}, "cannot be built: it needs 'lr_flow', which is missing"),
        ("EDVRModel", {"datasets:train:meta_info_file": "x.txt"}, "REDSDataset cannot be built: no such file: x.txt"),
        ("VideoRecurrentModel", {"datasets:train:gt_size": 128}, "more than 32 pixels a side, not 32 x 32"),
        ("EDVRModel", {"network_g:num_frame": 5}, "network_g cannot restore a clip of 3 frames of 3 x 40 x 40: Runtim"),
        (
            "VideoRecurrentModel",
            {"datasets:val": REDS4},
            "network_g restores 3 frames of a sample that has 1; take",
        ),
        ("VideoRecurrentModel", {"val:metrics": NIQE}, "val.metrics cannot be computed: "),
        ("VideoRecurrentModel", {"network_g:spynet_path": "a/spynet.pth"}, "built: no such file: a/spynet.pth"),
        (
            "RealESRNetModel",
            {"queue_size": 3, "datasets:train:batch_size_per_gpu": 2},
            "3 is not a multiple",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_missing_or_wrong_is_one_line(stock_data, monkeypatch, tmp_path, capsys, model, change, reason):
    folder(STOCK[model], stock_data, tmp_path, monkeypatch)
    options = yaml.safe_load(Path("options.yml").read_text())
    for place, value in change.items():
        section, *keys = options, *place.split(":")
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1]] = value
        if value is None:
            del section[keys[-1]]
    Path("options.yml").write_text(yaml.safe_dump(options))
    assert main(["train", "-opt", "options.yml"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line.lower()]
    assert reason in told[-1]


def saved(run):
    """All that a training leaves: weights, averages, states of optimisers and schedules, what models remember."""
    files = {path.name: torch.load(path, weights_only=True) for path in (run / "models").glob("*.pth")}
    return files | {path.name: torch.load(path, weights_only=True) for path in run.glob("training_states/*.state")}


def leave_as_when_killed(run, iteration):
    """Leave what a training has written that is killed right after the checkpoint of an iteration."""
    for path in [*run.glob("models/*"), *run.glob("training_states/*")]:
        if path.stem.rpartition("_")[2] != str(iteration):
            path.unlink()


def assert_same(one, other, where=""):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where} {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where} {index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def test_a_killed_training_ends_as_an_uninterrupted_one_and_is_tested(run):
    assert main(["train", "-opt", "options.yml"]) == 0
    straight = saved(run)
    assert {"net_g_2.pth", "net_g_4.pth", "net_g_latest.pth", "2.state", "4.state"} <= straight.keys()
    before, after = (straight[f"net_g_{iteration}.pth"]["params"] for iteration in (2, 4))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert list(Path(run, "visualization").rglob("*.png"))
    leave_as_when_killed(run, 2)
    assert main(["train", "-opt", "options.yml", "--auto_resume"]) == 0
    resumed = saved(run)
    assert resumed.keys() == straight.keys()
    for name in straight:
        for state in (straight[name], resumed[name]):
            state.pop("rng", None)
        assert_same(resumed[name], straight[name], name)

    assert main(["test", "-opt", "options.yml"]) == 0
    results = Path("results", run.name)
    images = sorted(results.rglob("*.png"))
    assert images
    assert all(cv2.imread(str(path)).std() > 0 for path in images)
    options = yaml.safe_load(Path("options.yml").read_text())
    scores = json.loads((results / "metrics.json").read_text())
    for phase, dataset in options["datasets"].items():
        if phase != "train":
            assert 3 < scores[dataset["name"]]["psnr"] < 40
