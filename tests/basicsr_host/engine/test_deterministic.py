"""Deterministic mode."""

from __future__ import annotations

import pytest
import torch

from semanir_plugin.basicsr_host.engine import deterministic
from semanir_plugin.basicsr_host.engine.deterministic import VARIABLE, make_deterministic
from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from tests.conftest import ROOT, tiny_overrides


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", torch.backends.cudnn.deterministic)
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def train(data, *entries):
    opt = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
    overrides = tiny_overrides(data, train__total_iter=2, val__val_freq=2)
    return main(["train", "-opt", opt, "--force_yml", *overrides, *entries])


@pytest.fixture
def modes(monkeypatch, tmp_path):
    """Record the deterministic modes of torch and cuDNN within each iteration."""
    monkeypatch.chdir(tmp_path)
    iterate, seen = TrainingLoop._iterate, []

    def watch(self, current_iter, batch):
        cudnn = torch.backends.cudnn
        seen.append((torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark))
        iterate(self, current_iter, batch)

    monkeypatch.setattr(TrainingLoop, "_iterate", watch)
    return seen


@pytest.mark.parametrize("entry", ["deterministic=true", "deterministic=false", "manual_seed=0"])
def test_the_option_sets_the_mode(sr_data, modes, entry, capsys):
    assert train(sr_data, entry) == 0
    wanted = entry == "deterministic=true"
    assert modes == [(wanted, wanted, not wanted)] * 2
    assert ("Deterministic algorithms only" in capsys.readouterr().err) == wanted


def test_what_cannot_be_deterministic_ends_the_run_with_one_line(sr_data, modes, monkeypatch, capsys):
    iterate = TrainingLoop._iterate

    def put(self, current_iter, batch):
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
        iterate(self, current_iter, batch)

    monkeypatch.setattr(TrainingLoop, "_iterate", put)
    assert train(sr_data) == 0
    assert train(sr_data, "deterministic=true") == 1
    assert "put_ does not have a deterministic implementation" in capsys.readouterr().err.splitlines()[-1]


def test_a_value_that_is_no_flag_is_refused(sr_data, modes, capsys):
    assert train(sr_data, "deterministic=1") == 2
    assert "deterministic must be true or false, not 1" in capsys.readouterr().err


@pytest.fixture
def cuda(monkeypatch):
    """Pretend that there is a GPU, which has or has not been used."""

    def pretend(chosen, started=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started)
        monkeypatch.setenv(VARIABLE, chosen or "")
        if chosen is None:
            monkeypatch.delenv(VARIABLE)

    return pretend


@pytest.mark.parametrize(
    ("chosen", "started", "used"), [(None, False, ":4096:8"), (":16:8", False, ":16:8"), (":16:8", True, ":16:8")]
)
def test_cublas_is_told_before_cuda_starts(cuda, chosen, started, used):
    cuda(chosen, started)
    make_deterministic()
    assert deterministic.os.environ[VARIABLE] == used


@pytest.mark.parametrize(
    ("chosen", "started", "complaint"),
    [
        (None, True, "CUDA has started without it: set CUBLAS_WORKSPACE_CONFIG=:4096:8 beforehand"),
        (":0:0", False, "CUBLAS_WORKSPACE_CONFIG=:0:0 is neither :4096:8 nor :16:8: unset it"),
    ],
)
def test_cublas_that_cannot_be_told_is_an_error(cuda, chosen, started, complaint):
    cuda(chosen, started)
    with pytest.raises(UserError, match=complaint):
        make_deterministic()
    assert not torch.are_deterministic_algorithms_enabled()


def test_without_a_gpu_the_environment_stays(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(VARIABLE, raising=False)
    make_deterministic()
    assert VARIABLE not in deterministic.os.environ
