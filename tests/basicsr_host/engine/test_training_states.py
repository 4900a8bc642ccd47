"""Checkpoints that are damaged, missing or cannot be written, through the command's own entry."""

from __future__ import annotations

import itertools
import random
import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.basicsr_host.engine.training_states import save_checkpoint
from semanir_plugin.basicsr_host.models import semanir_model
from semanir_plugin.basicsr_host.models.semanir_model import SemanIRModel
from semanir_plugin.cli import main
from semanir_plugin.inference.loading import load
from tests.conftest import ROOT, tiny_overrides
from tests.test_atomic_io import files_of_at_most

NAME = "train_SemanIR_SRx4"
RUN = Path("experiments", NAME)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(data, *flags, **more):
    more = {"val__val_freq": 100, "logger__save_checkpoint_freq": 1, "train__total_iter": 3, **more}
    opt = str(ROOT / "options" / f"{NAME}.yml")
    return main(["train", "-opt", opt, *flags, "--force_yml", *tiny_overrides(data, **more)])


def saved(folder=RUN):
    states = sorted(path.name for path in (folder / "training_states").iterdir())
    return states, sorted(path.name for path in (folder / "models").iterdir())


def network(name, folder=RUN):
    return torch.load(folder / "models" / f"net_g_{name}.pth", weights_only=True)


def same_weights(a, b):
    return all(torch.equal(a[key][name], b[key][name]) for key in ("params", "params_ema") for name in a[key])


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_the_last_ones_are_kept_beside_best_and_latest(sr_data):
    options = {"train__total_iter": 5, "logger__keep_checkpoints": 2, "val__val_freq": 1}
    assert train(sr_data, **options) == 0
    assert saved() == (["4.state", "5.state"], [f"net_g_{name}.pth" for name in ("4", "5", "best", "latest")])


def test_a_checkpoint_may_be_due_by_time_and_its_state_comes_last(sr_data, monkeypatch):
    clock = SimpleNamespace(monotonic=itertools.count(0, 5).__next__, time=time.time)
    monkeypatch.setattr("semanir_plugin.basicsr_host.engine.train.time", clock)
    assert train(sr_data, "--auto_resume", logger__save_checkpoint_freq=100, logger__save_checkpoint_seconds=5) == 0
    assert saved()[0] == ["1.state", "2.state", "3.state"]
    for iteration in (1, 2, 3):
        weights, state = RUN / "models" / f"net_g_{iteration}.pth", RUN / "training_states" / f"{iteration}.state"
        assert weights.stat().st_mtime_ns < state.stat().st_mtime_ns


def test_what_an_error_saves_is_left_to_those_who_train_alone():
    several = SimpleNamespace(opt={"dist": True}, saved_iter=1)
    TrainingLoop._save_before_the_end(several, 3)  # which has nothing to save with


def test_safetensors_lie_beside_and_are_read_back(sr_data, photos, tmp_path):
    names = [f"net_g_{name}" for name in ("2", "3", "best", "latest")]
    assert train(sr_data, logger__safetensors="true", logger__keep_checkpoints=2, val__val_freq=1) == 0
    assert saved()[1] == sorted(f"{name}.{suffix}" for name in names for suffix in ("pth", "safetensors"))
    for name in names:
        weights = load_file(RUN / "models" / f"{name}.safetensors")
        average = network(name.removeprefix("net_g_"))["params_ema"]
        assert weights.keys() == average.keys()
        assert all(torch.equal(weights[key], average[key]) for key in average)
    path = RUN / "models" / "net_g_latest.safetensors"
    assert load(path).options == load(path.with_suffix(".pth")).options
    more = {"path__pretrain_network_g": path, "datasets__val__dataroot_gt": sr_data / "val" / "GT"}
    assert train(sr_data, path__experiments_root=tmp_path / "tuned", train__total_iter=1, **more) == 0
    crop = sr_data / "val" / "LR_bicubic_X4"
    assert main(["restore", str(crop), "-o", "restored", "--model", str(path)]) == 0
    assert len(list(Path("restored").iterdir())) == 2


def test_without_the_option_there_are_none(sr_data):
    assert train(sr_data, train__total_iter=1) == 0
    assert not list(RUN.rglob("*.safetensors"))


def test_a_run_from_an_earlier_state_keeps_its_own(tmp_path):
    folders = {key: tmp_path / key for key in ("models", "training_states")}

    class Model:
        def save(self, epoch, iteration):
            state = folders["training_states"] / f"{iteration}.state"
            assert not state.exists(), "a state of before would be taken for that of the network saved now"
            state.touch()

    for folder in folders.values():
        folder.mkdir()
    for iteration in (1, 2, 3, 8, 9):  # of a run that went further
        (folders["training_states"] / f"{iteration}.state").touch()
    opt = {"logger": {"keep_checkpoints": 2}, "path": {key: str(folder) for key, folder in folders.items()}}
    save_checkpoint(Model(), opt, 0, 3)
    save_checkpoint(Model(), opt, 0, 4)
    names = sorted(path.name for path in folders["training_states"].iterdir())
    assert names == ["3.state", "4.state", "8.state", "9.state"]


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a bit of the state": lambda: flip_a_bit(RUN / "training_states" / "3.state"),
    "a bit of the network": lambda: flip_a_bit(RUN / "models" / "net_g_3.pth"),
    "half a state": lambda: (RUN / "training_states" / "3.state").write_bytes(b"PK" + bytes(500)),
    "an empty state": lambda: (RUN / "training_states" / "3.state").write_bytes(b""),
    "no network": lambda: (RUN / "models" / "net_g_3.pth").unlink(),
}


@pytest.fixture(scope="module")
def straight(sr_data, tmp_path_factory):
    """The network that five iterations without a break make."""
    folder = tmp_path_factory.mktemp("straight")
    assert train(sr_data, train__total_iter=5, path__experiments_root=folder) == 0
    return network(5, folder / NAME)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_one_before_a_damaged_one_is_taken_and_told(sr_data, straight, capsys, damage):
    assert train(sr_data) == 0
    damage()
    capsys.readouterr()
    assert train(sr_data, "--auto_resume", train__total_iter=5) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
    assert len(lines) == 1
    assert re.search(
        r"WARNING: The checkpoint of iteration 3 is passed over for the one before: .*(3\.state|g_3\.pth)", lines[0]
    )
    assert "training_states/2.state, iteration 2." in "".join(path.read_text() for path in RUN.glob("*.log"))
    assert same_weights(network(5), straight)


def test_without_one_that_is_whole_nothing_is_started_anew(sr_data, capsys):
    assert train(sr_data) == 0
    for path in (RUN / "training_states").iterdir():
        flip_a_bit(path)
    before = saved()
    assert train(sr_data, "--auto_resume", train__total_iter=5) == 2
    told = r"no checkpoint is complete; start again without --auto_resume \(the newest: .*3.state: damaged"
    assert re.search(told, last_line(capsys))
    assert saved() == before
    assert not list(Path("experiments").glob("*_archived_*"))


def test_a_damaged_state_that_is_named_is_refused(sr_data, capsys):
    assert train(sr_data) == 0
    path = RUN / "training_states" / "3.state"
    flip_a_bit(path)
    assert train(sr_data, path__resume_state=path, train__total_iter=5) == 2
    assert f"{path}: damaged" in last_line(capsys)


def test_a_full_disk_ends_the_run_with_one_line_and_the_last_checkpoint_is_used(sr_data, straight, capsys):
    assert train(sr_data, train__total_iter=2) == 0
    before = saved()
    capsys.readouterr()
    with files_of_at_most((RUN / "models" / "net_g_2.pth").stat().st_size // 2):
        assert train(sr_data, "--auto_resume", train__total_iter=5) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(
        r"net_g_3\.pth: cannot be written: File too large; the checkpoint of iteration 2 is complete: "
        r"make room .*--auto_resume$",
        error.splitlines()[-1],
    )
    assert saved() == before
    assert train(sr_data, "--auto_resume", train__total_iter=5) == 0
    assert same_weights(network(5), straight)


def test_a_run_killed_after_its_last_checkpoint_is_brought_to_its_end(sr_data, monkeypatch):
    killed = {"train__total_iter": 3, "logger__save_checkpoint_freq": 2, "val__val_freq": 2}
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_finish", lambda self: 1 / 0)
        assert train(sr_data, **killed) == 1
    assert "3.state" in saved()[0], "the last iteration is saved, whatever save_checkpoint_freq is"
    assert not (RUN / "models" / "net_g_latest.pth").exists()
    assert train(sr_data, "--auto_resume", **killed) == 0
    assert same_weights(network("latest"), network(3))
    assert sum(log.read_text().count("Validation Set5") for log in RUN.glob("*.log")) == 2, "none is done twice"
    before = {path: path.stat().st_mtime_ns for path in RUN.rglob("*")}
    assert train(sr_data, "--auto_resume", **killed) == 0
    assert {path: path.stat().st_mtime_ns for path in RUN.rglob("*")} == before


def test_halves_of_files_are_cleared_away(sr_data):
    assert train(sr_data) == 0
    halves = [RUN / "models" / ".net_g_4.pth.1.1.tmp", RUN / "visualization" / "baby" / ".baby_3.png.1.1.tmp"]
    for half in halves:
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"half")
    assert train(sr_data, "--auto_resume", train__total_iter=4) == 0
    assert not any(half.exists() for half in halves)


def test_generators_are_those_of_the_iteration(sr_data, monkeypatch):
    drawn, optimize = [], SemanIRModel.optimize_parameters

    def draw(self, current_iter):
        drawn.append((current_iter, random.random(), float(np.random.rand()), float(torch.rand(1))))
        optimize(self, current_iter)

    monkeypatch.setattr(SemanIRModel, "optimize_parameters", draw)
    monkeypatch.setattr(semanir_model, "set_rng_state", lambda state: None)  # as on all processes but the first
    assert train(sr_data, train__total_iter=3) == 0
    (RUN / "training_states" / "3.state").unlink()
    assert train(sr_data, "--auto_resume", train__total_iter=3) == 0
    assert drawn[3:] == drawn[2:3]
    assert len({number for _, *numbers in drawn[:3] for number in numbers}) == 9


def test_a_training_goes_on_from_a_state_of_another_experiment(sr_data):
    assert train(sr_data, name="whole", manual_seed=7) == 0
    assert train(sr_data, name="first", manual_seed=7, train__total_iter=2) == 0
    state = Path("experiments", "first", "training_states", "2.state")
    assert train(sr_data, name="second", manual_seed=7, path__resume_state=state) == 0
    assert same_weights(network(3, Path("experiments", "second")), network(3, Path("experiments", "whole")))


def test_a_state_without_its_networks_is_told(sr_data, capsys):
    assert train(sr_data, name="first") == 0
    state, weights = Path("experiments/first/training_states/2.state"), Path("experiments/first/models/net_g_2.pth")
    weights.unlink()
    assert train(sr_data, name="second", path__resume_state=state) == 2
    told = f"{state} was saved with {weights}, which is not there; put it back, or name another state"
    assert told in last_line(capsys)


@pytest.mark.parametrize("key", ["pretrain_network_g", "resume_state"])
@pytest.mark.parametrize("name", ["''", "' '"])
def test_an_empty_name_is_no_file(sr_data, key, name, capsys):
    assert train(sr_data, **{f"path__{key}": name}) == 2
    assert f"path: {key} is empty: name a file, or remove it" in capsys.readouterr().err


def test_weights_of_which_none_fits_are_not_trained_on(sr_data, capsys):
    torch.save({"params": {"nothing": torch.zeros(1)}}, "other.pth")
    assert train(sr_data, path__pretrain_network_g="other.pth", path__strict_load_g="false") == 2
    assert "other.pth: none of its weights fits SemanIR (nothing); check network_g" in last_line(capsys)
