from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch
import yaml

from semanir_plugin.basicsr_host.engine.run import read_run_options
from semanir_plugin.basicsr_host.engine.schema import validate_options
from semanir_plugin.errors import UserError
from semanir_plugin.inference.loading import load
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_loader
import train_weights

RECIPES = ("SemanIR_mini_SRx4", "SemanIR_SRx4", "SemanIRUNet_gray_JPEG10", "SemanIRUNet_GoPro", "AST_T_derain_SPAD")


@pytest.fixture
def data(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = cv2.imread(str(photos["coffee.png"]))
    for folder in ("train/BSD400", "test/Set5", "test/Set12"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / folder / "a.png"), photo[100:260, 60:244])
    return tmp_path / "data"


@pytest.fixture
def recipe(tmp_path):
    options = yaml.safe_load((ROOT / "options" / "train_SemanIR_mini_SRx4.yml").read_text())
    options["network_g"] |= {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4, "topk": 6}
    options["datasets"]["train"] |= {"gt_size": 32, "batch_size_per_gpu": 2}
    path = tmp_path / "train_tiny.yml"
    path.write_text(yaml.safe_dump(options | {"num_gpu": 0}))
    return path


def plan(recipe, data, **others):
    return train_weights.Plan(recipe=recipe, data=data, **{"iterations": 5, "workers": 1, **others})


def run_in_process(monkeypatch):
    from semanir_plugin.cli import main

    monkeypatch.setattr(train_weights, "basicsr", lambda *arguments: main(list(arguments)))


def start_in_a_process(recipe, data, tmp_path):
    """Start what trains for long and is asked to save every second, in a process group of its own."""
    options = yaml.safe_load(recipe.read_text())
    options["logger"]["save_checkpoint_seconds"] = 1
    recipe.write_text(yaml.safe_dump(options))
    words = [str(recipe), "--data", str(data), "--minutes", "9", "--iterations", "100000", "--workers", "0"]
    command = [sys.executable, str(ROOT / "scripts" / "train_weights.py"), *words, "--parts", "parts"]
    environment = os.environ | {"SEMANIR_VENV": "0", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)


def wait_for(found, process, seconds=120):
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_what_was_killed_goes_on_elsewhere_and_ends_in_weights(recipe, data, tmp_path, monkeypatch):
    process = start_in_a_process(recipe, data, tmp_path)
    try:
        wait_for(lambda: len(list((tmp_path / "experiments").glob("tiny/training_states/*.state"))) > 1, process)
        wait_for(lambda: (tmp_path / "parts").is_dir(), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.copytree(tmp_path / "weights" / "data", elsewhere / "weights" / "data")
    train_weights.unpack(tmp_path / "parts")
    facts = json.loads((elsewhere / "weights" / "tiny" / "training.json").read_text())
    done = facts["calls"][0]["iterations"]
    assert 0 < done < facts["iterations"] == 100_000
    options = yaml.safe_load((elsewhere / "weights" / "tiny" / "tiny.yml").read_text())
    train_weights.shorten(options, done + 3)
    (elsewhere / "weights" / "tiny" / "tiny.yml").write_bytes(train_weights.dump(options))
    train_weights.Weights(plan(recipe, data)).train(time.monotonic() + 300)
    assert json.loads((elsewhere / "weights" / "tiny" / "training.json").read_text())["calls"][1]["iterations"] == 3
    network = load(elsewhere / "weights" / "tiny" / "tiny.safetensors").module
    averaged = torch.load(elsewhere / "experiments" / "tiny" / "models" / "net_g_latest.pth")["params_ema"]
    assert all(torch.equal(value, averaged[key]) for key, value in network.state_dict().items())


def test_a_time_too_short_to_begin_leaves_what_goes_on(recipe, data, tmp_path, monkeypatch):
    run_in_process(monkeypatch)
    train_weights.Weights(plan(recipe, data)).train(time.monotonic() + 0.1)
    assert list((tmp_path / "weights" / "tiny" / "parts").iterdir())
    train_weights.Weights(plan(recipe, data)).train(time.monotonic() + 300)
    assert (tmp_path / "weights" / "tiny" / "tiny.safetensors").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_option_files_of_all_kinds_of_recipes_are_valid(name, data, tmp_path, monkeypatch):
    run_in_process(monkeypatch)
    weights = train_weights.Weights(plan(ROOT / "options" / f"train_{name}.yml", data))
    options = weights._options(train_weights.make_training_set(weights.recipe, data, 1))
    train_weights.shorten(options, 100)
    weights.opt.parent.mkdir(parents=True)
    weights.opt.write_bytes(train_weights.dump(options))
    validate_options(read_run_options(weights.opt, is_train=True), is_train=True)
    assert options["datasets"]["val"]["name"] == ("Set12" if "gray" in name else "Set5")
    assert len(list((tmp_path / "weights" / "data" / "BSD400_sizes").iterdir())) == len(train_weights.SCALES)


def test_the_loader_is_measured_on_the_same_data(recipe, data, monkeypatch, capsys):
    words = [str(recipe), "--data", str(data), "--patch", "32", "--samples", "5"]
    monkeypatch.setenv("SEMANIR_VENV", "0")
    monkeypatch.setattr(sys, "argv", ["benchmark_loader.py", *words])
    assert benchmark_loader.main() == 0
    assert "patches per second of one core" in capsys.readouterr().out


def test_schedules_are_shortened_alike():
    options = {
        "train": {"total_iter": 1000, "warmup_iter": 50, "scheduler": {"milestones": [500, 800], "gamma": 0.5}},
        "datasets": {"train": {"iters": [333, 333, 334]}},
        "val": {"val_freq": 100},
        "logger": {},
    }
    train_weights.shorten(options, 100, 20)
    assert options["train"] == {
        "total_iter": 100,
        "warmup_iter": 5,
        "scheduler": {"milestones": [50, 80], "gamma": 0.5},
    }
    assert options["datasets"]["train"]["iters"] == [33, 33, 34]
    assert options["val"]["val_freq"] == options["logger"]["save_checkpoint_freq"] == 5


def test_iterations_are_fitted_to_the_time(recipe, data, monkeypatch, capsys):
    run_in_process(monkeypatch)
    weights = train_weights.Weights(plan(recipe, data, iterations=None))
    options = weights._options(train_weights.make_training_set(weights.recipe, data, 1))
    few, many = (weights._fit(options, time.monotonic() + seconds) for seconds in (10, 1000))
    assert 50 * few < many
    assert options["train"]["total_iter"] == 6000, "the trial has options of its own"


def test_a_set_of_parts_replaces_the_one_before_and_one_that_is_not_whole_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_weights, "PART", 10_000)
    for content in (b"old", b"new"):
        Path("file").write_bytes(content * 10_000)
        train_weights.pack([Path("file")], Path("parts"))
    names = sorted(part.name for part in Path("parts").iterdir())
    assert names == [f"part_00002_{index}_of_{len(names)}" for index in range(1, len(names) + 1)]
    assert all(part.stat().st_size <= 10_000 for part in Path("parts").iterdir())
    Path("parts", f"part_00003_1_of_{len(names)}").write_bytes(b"killed while it was written")
    Path("file").unlink()
    train_weights.unpack(Path("parts"))
    assert Path("file").read_bytes() == b"new" * 10_000
    Path("parts", names[0]).unlink()
    with pytest.raises(UserError, match="no whole set of parts"):
        train_weights.unpack(Path("parts"))


def test_parts_that_are_damaged_are_told(tmp_path):
    (tmp_path / "part_00001_1_of_1").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UserError, match="not the parts of a training"):
        train_weights.unpack(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.yml", "--minutes", "5"], "no.yml: no such file"),
        ([str(ROOT / "options" / "train_SemanIR_SRx4.yml"), "--minutes", "5", "--data", "no"], "--data must name"),
        ([str(ROOT / "options" / "train_SemanIR_SRx4.yml"), "--minutes", "0.1"], "--minutes must be more than 0.3"),
    ],
)
def test_wrong_arguments_are_one_line(words, message, data):
    command = [sys.executable, str(ROOT / "scripts" / "train_weights.py"), *words]
    environment = {"SEMANIR_VENV": "0", "SEMANIR_DATA": str(data), "PATH": ""}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
