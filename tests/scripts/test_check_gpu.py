from __future__ import annotations

import sys

import pytest
import torch

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import check_gpu


@pytest.fixture
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMANIR_VENV", "0")
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--out", str(tmp_path / "out")])


@pytest.mark.usefixtures("_here")
def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_gpu.main() == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("_here")
def test_every_part_runs_and_a_failure_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(check_gpu, "TESTS", ("tests", 60, ["-c", "import sys; print('hm'); sys.exit(3)"]))
    monkeypatch.setattr(check_gpu, "BENCHMARK", ("benchmark", 0.5, ["-c", "import time; time.sleep(60)"]))
    monkeypatch.setattr(check_gpu, "THROUGHPUT", ("throughput", 60, ["-c", "import sys; print(sys.argv[1:])"]))
    monkeypatch.setattr(check_gpu, "TRAINING", ("training", 60, ["-c", "print('fine')"]))
    assert check_gpu.main() == 1
    out = capsys.readouterr().out
    assert "a GPU" in out
    assert "tests: failed (3)" in out
    assert "benchmark: stopped after 0.5 s" in out
    assert "training: succeeded" in out
    assert "throughput: succeeded" in out
    assert (tmp_path / "out" / "tests.txt").read_text() == "hm\n"
    assert (tmp_path / "out" / "throughput.txt").read_text() == f"{['--out', str(tmp_path / 'out')]}\n"
