"""Training and validation on clean images that are degraded on the fly, through the command's own entry."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
import yaml

from semanir_plugin.cli import main

NETWORK = {
    **{"type": "SwinIR", "img_size": 16, "window_size": 8, "depths": [1], "embed_dim": 8, "num_heads": [2]},
    **{"mlp_ratio": 1, "img_range": 1.0},
}
TASKS = {
    "noise": ({"type": "GaussianNoiseDataset", "num_channels": 1}, {"sigma": [0, 50]}, {"sigma": 25}),
    "jpeg": ({"type": "JPEGDataset"}, {"quality": [10, 40]}, {"quality": 10}),
    "demosaic": ({"type": "DemosaicDataset"}, {}, {}),
    "bicubic": ({"type": "BicubicSRDataset", "lq_cache": "cache"}, {}, {}),
    "real": ({"type": "RealWorldDataset", "stages": {"first": {"prob": 0.5}, "last": {}}}, {}, {"seed": 3}),
    "mixed": (
        {"type": "MixedDegradationDataset"},
        {"degradations": {"noise": {"sigma": [0, 50]}, "low_light": {"exposure": [0.1, 0.5]}, "clean": {"weight": 2}}},
        {"degradations": {"noise": {"sigma": 25}}},
    ),
}


@pytest.fixture
def recipe(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("GT").mkdir()
    for name in ("coffee.png", "chelsea.png"):
        cv2.imwrite(f"GT/{name}", cv2.imread(str(photos[name]))[:40, 100:148])

    def recipe(task):
        options, train, val = TASKS[task]
        data = {**options, "dataroot_gt": "GT"}
        patches = {"gt_size": 32, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 2}
        scale, channels = 2 if task in ("bicubic", "real") else 1, options.get("num_channels", 3)
        network = {**NETWORK, "upscale": scale, "in_chans": channels, "upsampler": "pixelshuffledirect" * (scale > 1)}
        opt = {
            **{"name": task, "model_type": "SemanIRModel", "scale": scale, "num_gpu": 0, "manual_seed": 1},
            **{"datasets": {"train": {**data, **train, **patches}, "val": {**data, **val}}, "network_g": network},
            "train": {
                **{"optim_g": {"type": "Adam", "lr": 1e-3}, "scheduler": {"type": "MultiStepLR", "milestones": [9]}},
                **{"total_iter": 4, "pixel_opt": {"type": "L1Loss"}},
            },
            "val": {"val_freq": 4, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}},
        }
        Path("x.yml").write_text(yaml.safe_dump(opt))
        return "x.yml"

    return recipe


def train(path, *entries):
    return main(["train", "-opt", path, *(["--force_yml", *entries] if entries else [])])


@pytest.mark.parametrize("task", TASKS)
def test_runs_repeat_whatever_the_workers(recipe, task):
    path, weights, logs = recipe(task), [], []
    for workers in (0, 2):
        assert train(path, f"datasets:train:num_worker_per_gpu={workers}", f"name=run{workers}") == 0
        weights.append(torch.load(f"experiments/run{workers}/models/net_g_latest.pth", weights_only=True)["params"])
        (log,) = Path("experiments", f"run{workers}").glob("*.log")
        logs.append(log.read_text().partition("# psnr: ")[2].split()[0])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert 5 < float(logs[0]) < 60
    assert logs[0] == logs[1]


def test_patches_grow(recipe):
    lists = {"gt_sizes": [16, 32], "batch_sizes_per_gpu": [2, 1], "iters": [1, 3], "gt_size": "~"}
    entries = [f"datasets:train:{key}={value}" for key, value in {**lists, "batch_size_per_gpu": "~"}.items()]
    assert train(recipe("noise"), *entries) == 0
    (log,) = Path("experiments", "noise").glob("*.log")
    assert "patches of 32, batches of 1 x 1 processes, iterations 2 to 4." in log.read_text()


@pytest.mark.parametrize(
    ("task", "entry", "told"),
    [
        ("noise", "datasets:train:sigma=[50,0]", "sigma must be one number or [low, high], not [50, 0]"),
        ("noise", "datasets:train:gt_size=64", "64 is more than GT chelsea.png, 48x40, has; use smaller patches"),
        ("jpeg", "scale=2", "upscale 1 is not the scale 2 of the datasets"),
        ("bicubic", "datasets:val:lq_cache=GT", "lq_cache is the folder of the ground truth, GT; choose another"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(recipe, capsys, task, entry, told):
    assert train(recipe(task), entry) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("basicsr train: ")
    assert told in error
    assert not Path("experiments").exists()
