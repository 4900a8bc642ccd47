"""Validations that fail or are killed: the checkpoint of their iteration is there, and goes on with or without them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from semanir_plugin.basicsr_host.models.semanir_model import SemanIRModel
from semanir_plugin.cli import main
from tests.conftest import ROOT, tiny_overrides

NAME = "train_SemanIR_SRx4"
RUN = Path("experiments", NAME)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(data, *flags, **more):
    more = {"val__val_freq": 2, "logger__save_checkpoint_freq": 100, "train__total_iter": 5, **more}
    opt = str(ROOT / "options" / f"{NAME}.yml")
    return main(["train", "-opt", opt, "--force_yml", *tiny_overrides(data, **more), *flags])


def outcome(folder=RUN):
    """The weights, and the best scores."""
    weights = torch.load(folder / "models" / "net_g_latest.pth", weights_only=True)
    best = torch.load(folder / "training_states" / "5.state", weights_only=True)["best_metric_results"]
    named = {f"{key}.{name}": value for key in ("params", "params_ema") for name, value in weights[key].items()}
    return named, best, torch.load(folder / "models" / "net_g_best.pth", weights_only=True)["params"]


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def straight(sr_data, tmp_path_factory):
    """The outcome of a training in which nothing fails."""
    folder = tmp_path_factory.mktemp("straight")
    assert train(sr_data, path__experiments_root=folder) == 0
    return outcome(folder / NAME)


@pytest.fixture
def failing(monkeypatch):
    """Have the validations of some iterations do something else."""

    def at(iterations, do):
        validation = SemanIRModel.validation

        def replaced(self, loader, current_iter, *rest):
            return do() if current_iter in iterations else validation(self, loader, current_iter, *rest)

        patch = pytest.MonkeyPatch()
        patch.setattr(SemanIRModel, "validation", replaced)
        return patch

    return at


def die():
    raise MemoryError("no room for 99 GB")


@pytest.mark.parametrize("iteration", [4, 5], ids=["between", "last"])
def test_one_that_fails_loses_no_iteration(sr_data, straight, capsys, failing, iteration):
    patch = failing({iteration}, die)
    told = (
        rf"the validation of iteration {iteration} failed: MemoryError: no room for 99 GB; mend it and go on with "
        r"--auto_resume, or without validation with --auto_resume --force_yml val=~$"
    )
    for flags in ([], ["--auto_resume"]):  # a resumed run does it first
        assert train(sr_data, *flags) == 2
        assert re.search(told, capsys.readouterr().err.splitlines()[-1])
    assert (RUN / "training_states" / f"{iteration}.state").exists()
    assert "Traceback" in "".join(log.read_text() for log in RUN.glob("*.log")), "for those who write models"
    assert train(sr_data, "--auto_resume", "--force_yml", "val=~") == 0
    assert same_weights(outcome()[0], straight[0])
    patch.undo()


def test_it_is_made_up_for(sr_data, straight, failing):
    patch = failing({2}, die)
    assert train(sr_data) == 2
    patch.undo()
    assert train(sr_data, "--auto_resume") == 0
    (weights, best, best_weights), (weights_0, best_0, best_weights_0) = outcome(), straight
    assert same_weights(weights, weights_0)
    assert same_weights(best_weights, best_weights_0)
    assert best == best_0


def test_the_checkpoint_comes_first(sr_data, straight, failing):
    patch = failing({4}, lambda: os._exit(9))  # as SIGKILL would
    pid = os.fork()
    if not pid:
        train(sr_data, logger__save_checkpoint_freq=2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    patch.undo()
    assert not torch.load(RUN / "training_states" / "4.state", weights_only=True)["validated"]
    assert train(sr_data, "--auto_resume", logger__save_checkpoint_freq=2) == 0
    assert torch.load(RUN / "training_states" / "4.state", weights_only=True)["validated"]
    assert outcome()[1] == straight[1]
    assert same_weights(outcome()[0], straight[0])
