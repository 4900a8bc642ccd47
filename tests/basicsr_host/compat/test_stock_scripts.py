"""BasicSR's own pipelines, and tests in its manner, where this package is imported before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import basicsr.test
import basicsr.train
import numpy as np
import pytest
import torch

from semanir_plugin.errors import UserError
from tests.basicsr_host.engine.stock_models import STOCK, write_pairs
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With pairs, and `train.yml` and `test.yml` as BasicSR's parser takes them; the working directory is another."""
    write_pairs(tmp_path / "pairs")
    options = STOCK["SRGANModel"]
    roots = {f"dataroot_{side}": str(tmp_path / "pairs" / side) for side in ("gt", "lq")}
    pairs = {**options["datasets"]["val"], **roots}
    train = {**options, "datasets": {"train": {**options["datasets"]["train"], **pairs}, "val": pairs}}
    path = {"pretrain_network_g": str(tmp_path / "experiments" / "SRGANModel" / "models" / "net_g_4.pth")}
    test = {**options, "path": path, "datasets": {"test_1": pairs}, "val": {**options["val"], "suffix": None}}
    train["val"] = test["val"]
    for name, content in (("train", train), ("test", test)):
        (tmp_path / f"{name}.yml").write_text(json.dumps(content))  # YAML without shared parts, from which it pops
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path


def call(pipeline, folder, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["script.py", "-opt", *arguments])
    pipeline(str(folder))


def test_pipelines_of_basicsr_train_resume_and_test_on_a_cpu(folder, monkeypatch, capsys):
    train, models = str(folder / "train.yml"), folder / "experiments" / "SRGANModel" / "models"
    call(basicsr.train.train_pipeline, folder, monkeypatch, train, "--force_yml", "train:total_iter=2")
    assert (models / "net_g_2.pth").is_file()
    assert not (models / "net_g_4.pth").exists()
    call(basicsr.train.train_pipeline, folder, monkeypatch, train, "--auto_resume")
    assert "Resuming training from epoch: 0, iter: 2" in capsys.readouterr().err
    first, last = (torch.load(models / f"net_d_{n}.pth", weights_only=True)["params"] for n in (2, 4))
    assert any(not torch.equal(first[key], last[key]) for key in first)
    call(basicsr.test.test_pipeline, folder, monkeypatch, str(folder / "test.yml"))
    assert len(list(Path(folder, "results", "SRGANModel").rglob("*.png"))) == 4


def test_a_state_that_would_execute_code_is_not_resumed_from(folder, monkeypatch):
    states = folder / "experiments" / "SRGANModel" / "training_states"
    states.mkdir(parents=True)
    torch.save({"iter": 2, "optimizers": [], "schedulers": [np.float64(1)]}, states / "2.state")
    with pytest.raises(UserError, match=r"2\.state: refused"):
        call(basicsr.train.train_pipeline, folder, monkeypatch, str(folder / "train.yml"), "--auto_resume")


# As BasicSR's own tests are written: nothing in them speaks of this package.
IN_ITS_MANNER = """
import tempfile
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.models.sr_model import SRModel
from basicsr.models.realesrnet_model import RealESRNetModel

PATH = {"pretrain_network_g": None, "param_key_g": "params", "strict_load_g": True}
NETWORK = {"type": "MSRResNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1, "upscale": 4}
TRAIN = {"optim_g": {"type": "Adam", "lr": 1e-4}, "scheduler": {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5}}


def options():
    return {
        "name": "test", "num_gpu": 0, "dist": False, "is_train": True, "rank": 0, "world_size": 1, "scale": 4,
        "network_g": dict(NETWORK), "path": dict(PATH), "gt_size": 32, "queue_size": 1, "gt_usm": True,
        "train": {**TRAIN, "optim_g": dict(TRAIN["optim_g"]), "scheduler": dict(TRAIN["scheduler"]),
                  "ema_decay": 0.9, "pixel_opt": {"type": "L1Loss"}},
        "val": {"suffix": None, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 4}}},
    }


def test_srmodel():
    model = SRModel(options())
    model.feed_data({"lq": torch.rand(1, 3, 8, 8), "gt": torch.rand(1, 3, 32, 32)})
    model.optimize_parameters(1)
    assert set(model.log_dict) == {"l_pix"}
    with tempfile.TemporaryDirectory() as folder:
        model.opt["path"].update(models=folder, training_states=folder, visualization=folder)
        model.save(0, 1)
        roots = {"dataroot_gt": "pairs/gt", "dataroot_lq": "pairs/lq", "io_backend": {"type": "disk"}}
        dataset = PairedImageDataset({**roots, "name": "Demo", "scale": 4, "phase": "val"})
        model.nondist_validation(torch.utils.data.DataLoader(dataset, batch_size=1), 1, None, save_img=True)
    assert isinstance(model.metric_results["psnr"], float)


def test_realesrnet_model():
    noise = {"resize_prob": [0.2, 0.7, 0.1], "resize_range": [0.5, 1.5], "gaussian_noise_prob": 0.5}
    noise |= {"noise_range": [1, 30], "poisson_scale_range": [0.05, 3], "gray_noise_prob": 0.4, "jpeg_range": [30, 95]}
    second = {key + "2": value for key, value in noise.items()}
    model = RealESRNetModel({**options(), **noise, **second, "second_blur_prob": 1})
    kernel = torch.rand(1, 5, 5)
    for _ in range(3):
        model.feed_data({"gt": torch.rand(1, 3, 32, 32), "kernel1": kernel, "kernel2": kernel, "sinc_kernel": kernel})
        assert model.lq.shape == (1, 3, 8, 8)
        assert model.gt.shape == (1, 3, 32, 32)
"""


def test_its_own_tests_run_with_this_package_as_without(tmp_path):
    write_pairs(tmp_path / "pairs")
    for folder in ("basicsr", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "basicsr" / "__init__.py").write_text("from .version import __version__  # a file that set-up makes")
    (tmp_path / "tests" / "test_models.py").write_text(IN_ITS_MANNER)
    command = [str(Path(sysconfig.get_path("scripts"), "pytest")), "-q", "-p", "semanir_plugin", "tests"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
