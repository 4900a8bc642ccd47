from __future__ import annotations

import sys

import pytest
import torch

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import similarity_rounding


def test_halves_change_no_more_keys_than_fp32_does(monkeypatch, capsys):
    monkeypatch.setattr(similarity_rounding, "run_in_venv", lambda: None)
    monkeypatch.setattr(sys, "argv", ["similarity_rounding.py", "--windows", "1", "--channels", "48", "--keys", "64"])
    assert similarity_rounding.main() == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == ["fp32", "halves", "TF32", "bf16"] * 2
    for fp32, halves, tf32, bf16 in (rows[:4], rows[4:]):
        assert int(halves[2]) <= int(fp32[2]) + 3
        assert int(bf16[2]) > int(tf32[2]) > 20 > int(halves[2])


def test_sums_of_tensor_cores_are_cut():
    factors = torch.tensor([[[1.0] + [0.0] * 15 + [2.0**-30]]])
    assert similarity_rounding.on_tensor_cores([(factors, torch.ones_like(factors))]).item() == 1
    assert similarity_rounding.on_tensor_cores([(factors[..., 16:], factors[..., 16:])]).item() == 2.0**-60


def test_queries_with_other_keys_are_counted():
    truth = torch.tensor([[[3.0, 2, 1], [1, 1, 0], [0, 1, 2]]])
    other = torch.tensor([[[3.0, 1, 2], [0, 1, 0], [0, 1, 2]]])
    assert similarity_rounding.count_changed(truth, other, 2) == 1
    assert similarity_rounding.count_changed(truth, other, 1) == 0


@pytest.mark.parametrize(
    "asked", [["--windows", "0"], ["--channels", "47"], ["--keys", "64", "1025"], ["--windows", "999"]]
)
def test_what_cannot_be_asked_for_is_one_line(monkeypatch, capsys, asked):
    monkeypatch.setattr(similarity_rounding, "run_in_venv", lambda: None)
    monkeypatch.setattr(sys, "argv", ["similarity_rounding.py", *asked])
    try:
        code = similarity_rounding.main()
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert "similarity_rounding" in capsys.readouterr().err.splitlines()[-1]
