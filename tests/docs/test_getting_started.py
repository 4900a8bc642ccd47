"""What the page on getting started shows of trainings, run on a few crops."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from semanir_plugin.cli import main
from semanir_plugin.inference.checkpoints import read_checkpoint, select_weights
from semanir_plugin.inference.shipped_weights import find_weights
from tests.conftest import ROOT, tiny_overrides
from tests.docs.pages import blocks_of, commands_of


@pytest.fixture
def finetuning(sr_data, tmp_path, monkeypatch):
    """The page's commands that finetune `semanir-mini-x4`, the training a short one, at hardly any rate."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "getting_started.md"
    block = next(each for each in blocks_of(page) if "pretrain_network_g" in each.text)
    copy, training = (words[1:] for words in commands_of(block))
    short = {"train__total_iter": 1, "train__optim_g__lr": "1e-9", "train__scheduler__eta_min": 0, "val__val_freq": 1}
    overrides = [each for each in tiny_overrides(sr_data, **short) if not each.startswith("network_g:")]
    return copy, [*training, *overrides]


def weights(path):
    return select_weights(read_checkpoint(path), "params", path)


@pytest.mark.parametrize("key", ["params", "params_ema", "~"])
def test_a_shipped_network_is_finetuned(finetuning, key):
    copy, training = finetuning
    assert main(copy) == 0
    assert main([*training, f"path:param_key_g={key}"]) == 0, shlex.join(training)
    begun, shipped = weights("experiments/my_x4/models/net_g_latest.pth"), weights(find_weights("semanir-mini-x4"))
    assert begun.keys() == shipped.keys()
    assert all(torch.allclose(begun[name], value, rtol=0, atol=1e-6) for name, value in shipped.items())


def test_a_misspelt_name_is_told(finetuning, capsys):
    copy, training = finetuning
    assert main(copy) == 0
    assert main([*training, "path:pretrain_network_g=semanir-mini-4x"]) == 2
    assert "no file and no weights 'semanir-mini-4x'; did you mean 'semanir-mini-x4'?" in capsys.readouterr().err


def test_a_file_of_the_name_counts_more(finetuning, capsys):
    copy, training = finetuning
    assert main(copy) == 0
    Path("semanir-mini-x4").write_bytes(b"none")
    assert main(training) == 2
    assert "semanir-mini-x4: not a PyTorch checkpoint" in capsys.readouterr().err


def test_a_shipped_network_is_tested_by_name(sr_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = ["test", "-opt", str(ROOT / "options" / "test_SemanIR_mini_SRx4.yml"), "--force_yml", "num_gpu=0"]
    for index in range(1, 4):
        folders = (("gt", "GT"), ("lq", "LR_bicubic_X4"))
        test += [f"datasets:test_{index}:dataroot_{side}={sr_data / 'val' / folder}" for side, folder in folders]
    scores = []
    for weights in ("semanir-mini-x4", find_weights("semanir-mini-x4")):
        assert main([*test, f"path:pretrain_network_g={weights}", "path:param_key_g=params"]) == 0
        scores.append(Path("results", "test_SemanIR_mini_SRx4", "metrics.json").read_text())
    assert scores[0] == scores[1]
