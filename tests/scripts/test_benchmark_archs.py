from __future__ import annotations

import sys

import pytest
import torch

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_archs
import measuring


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    tiny = {"embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9}
    monkeypatch.setattr(benchmark_archs, "SIZES", {"B": tiny})
    monkeypatch.setattr(measuring, "peak_mib", lambda *_: 1.0)


@pytest.mark.parametrize("training", [True, False])
def test_a_row_has_both_networks(training, capsys):
    row = benchmark_archs.measure("B", "frfn", 128, 128, "cpu", 1, training=training)
    benchmark_archs.print_row(row)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (4 if training else 2)
    assert all(float(number) > 0 for line in lines for number in line.split()[3:])
    assert len({len(line) for line in lines}) == 1, "columns line up"


def test_the_plain_one_takes_squares_alone():
    seen = []
    for kind in benchmark_archs.KINDS:
        net = benchmark_archs.build(kind, "B", "leff", "cpu")
        convolution = net.input_proj.proj[0] if kind == "plain" else net.conv_first
        convolution.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
        image = benchmark_archs.make_image(100, 200, "cpu")
        assert benchmark_archs.infer(net, image, kind).shape == (1, 3, 100, 200)
    assert seen == [(256, 256), (128, 256)]


def test_what_computes_something_else_is_not_timed(monkeypatch):
    right = benchmark_archs.infer
    monkeypatch.setattr(
        benchmark_archs, "infer", lambda net, x, kind: right(net, x, kind) * (1.01 if kind == "ours" else 1)
    )
    with pytest.raises(SystemExit, match="ours differs from plain"):
        benchmark_archs.measure("B", "frfn", 128, 128, "cpu", 1, training=False)


def test_everything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_archs, "run_in_venv", lambda: None)
    monkeypatch.setattr(benchmark_archs, "IMAGES", ((128, 128, False), (37, 140, False)))
    monkeypatch.setattr(
        sys, "argv", ["benchmark_archs.py", "--device", "cpu", "--repeats", "1", "--out", str(tmp_path)]
    )
    assert benchmark_archs.main() == 0
    assert '"inference_ours_ms"' in (tmp_path / "benchmark_archs_B_frfn_cpu.json").read_text()
    assert "commit" in capsys.readouterr().out
    assert torch.is_grad_enabled()
