from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from semanir_plugin.evaluation.benchmark import configurations, measuring
from semanir_plugin.evaluation.benchmark.configurations import Configuration
from semanir_plugin.inference import tile_memory
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_archs
import compared_networks
from compared_networks import COMPARISONS, Comparison, Contestant

TINY_AST = {"token_mlp": "frfn", "embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9}
SWINIR = {**compared_networks.SWINIR, "embed_dim": 6, "depths": [1], "num_heads": [1]}
PAIR = {
    "slow": Contestant(partial(compared_networks.random_weights, {**SWINIR, "depths": [12]})),
    "quick": Contestant(partial(compared_networks.random_weights, SWINIR)),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(compared_networks, "AST_B", TINY_AST)
    for name, each in COMPARISONS.items():
        monkeypatch.setitem(COMPARISONS, name, replace(each, size=(128, 128)))
    monkeypatch.setitem(COMPARISONS, "mini", Comparison((16, 24), PAIR, ("quick",)))
    monkeypatch.setattr(measuring, "peak_mib", lambda *_: 1.0)
    monkeypatch.setattr(benchmark_archs, "run_in_venv", lambda: None)


def run(monkeypatch, tmp_path, *arguments):
    out = ["--device", "cpu", "--turns", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmark_archs.py", *out, *arguments])
    return benchmark_archs.main()


def test_lines_as_they_come_and_a_table(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, "--only", "mini") == 0
    rows = [json.loads(line) for line in (tmp_path / "benchmark_archs.jsonl").read_text().splitlines()]
    assert [row["network"] for row in rows] == ["slow", "quick"]
    assert rows[1]["ratios"] == {}
    assert rows[0]["ratios"]["quick"] == [rows[0][each] / rows[1][each] for each in ("processor", "median")]
    assert rows[0]["ratios"]["quick"][0] > 1
    table = (tmp_path / "benchmark_archs.md").read_text()
    assert "| slow | 16x24 |" in table
    assert "commit" in table
    assert table in capsys.readouterr().out


@pytest.mark.parametrize("asked", [True, False])
def test_freed_memory_is_kept_where_that_is_asked_for(monkeypatch, tmp_path, asked):
    kept = []
    monkeypatch.setattr(tile_memory, "keep_freed_memory", lambda: kept.append(True))
    assert run(monkeypatch, tmp_path, "--only", "mini", *["--keep-memory"] * asked) == 0
    assert len(kept) == asked


@pytest.mark.parametrize("name", ["ast", "ast-wide", "ast-training"])
def test_ast_beside_its_plain_description(name):
    rows = list(benchmark_archs.measure(name, 1, "cpu", None))
    assert [row["network"] for row in rows] == ["AST-B", "plain"]
    assert {row["task"] for row in rows} == {"training" if name == "ast-training" else "inference"}
    assert all(row["processor"] > 0 for row in rows)


def test_the_plain_one_takes_squares_alone():
    seen, image = [], compared_networks.make_image(100, 200, None)
    for each in compared_networks.AST_PAIR.values():
        net = each.build()
        convolution = net.input_proj.proj[0] if each.square else net.conv_first
        convolution.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
        assert benchmark_archs.restore(net, image, each).shape == (1, 3, 100, 200)
    assert seen == [(128, 256), (256, 256)]


def test_what_computes_something_else_is_not_timed(monkeypatch):
    right = benchmark_archs.restore
    monkeypatch.setattr(benchmark_archs, "restore", lambda net, x, each: right(net, x, each) * (1 + bool(each.square)))
    with pytest.raises(SystemExit, match="AST-B differs from plain"):
        next(benchmark_archs.measure("ast", 1, "cpu", None))


def test_a_package_that_is_missing_is_named_and_the_rest_is_measured(monkeypatch, tmp_path, capsys):
    absent = {"other": replace(PAIR["quick"], needs=("torch", "no_such_package"))}
    monkeypatch.setitem(COMPARISONS, "unet", Comparison((16, 16), absent, ()))
    assert run(monkeypatch, tmp_path, "--only", "unet", "mini") == 0
    assert "unet: not compared, no_such_package is not installed: pip install" in capsys.readouterr().err
    assert len((tmp_path / "benchmark_archs.jsonl").read_text().splitlines()) == 2


def test_photographs_that_are_missing_are_told(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, "--only", "mini", "--data", str(tmp_path)) == 2
    assert "has no PNG or JPEG images" in capsys.readouterr().err


def test_references_and_networks_are_there():
    assert all(set(each.references) <= each.contestants.keys() for each in COMPARISONS.values())
    sizes = {
        name: sum(each.numel() for each in COMPARISONS["light"].contestants[name].build().parameters())
        for name in ("SemanIR-light", "SwinIR-light")
    }
    assert sizes == {"SemanIR-light": 983_340, "SwinIR-light": 929_628}


def test_images_beyond_the_photograph_repeat_it():
    image = compared_networks.make_image(100, 720, None)
    assert image.shape == (1, 3, 100, 720)
    assert torch.equal(image[..., 320:640], image[..., :320])


def test_configurations_run_in_processes_of_their_own(monkeypatch):
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    assert Configuration().run(os.getpid) == os.getpid()
    other = Configuration(2, "avx2")
    assert other.run(os.getpid) != os.getpid()
    assert other.run(os.getenv, "OMP_NUM_THREADS") == "2"
    assert other.run(os.getenv, "ATEN_CPU_CAPABILITY") == "avx2"
    assert "ATEN_CPU_CAPABILITY" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Configuration(3).run(os.getpid) == os.getpid()


def test_every_combination_is_a_configuration():
    parser = benchmark_archs.argparse.ArgumentParser()
    configurations.add_configurations(parser)
    read = lambda *words: configurations.read_configurations(parser.parse_args(words))  # noqa: E731
    assert read() == [Configuration()]
    assert read("--threads", "1", "2", "--isa", "native", "avx2") == [
        Configuration(threads, isa) for isa in ("native", "avx2") for threads in (1, 2)
    ]
