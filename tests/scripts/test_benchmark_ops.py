from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from importlib import import_module

import pytest
import torch

from semanir_plugin import errors
from semanir_plugin.evaluation.benchmark import measuring as benchmark_measuring
from semanir_plugin.ops.common.native_support import why_not
from semanir_plugin.ops.key_semantic_attention import native_backend
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_ops
import measuring

SMALL = dataclasses.replace(benchmark_ops.PLANS["cpu"], tokens=256, windows=(64,), assa_sizes=((3, 16),))
REAL_PEAK_MIB = benchmark_measuring.peak_mib


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    if why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32):
        monkeypatch.setitem(benchmark_ops.PLANS, "cpu", dataclasses.replace(SMALL, attention=SMALL.attention[:-1]))
    else:
        monkeypatch.setitem(benchmark_ops.PLANS, "cpu", SMALL)
    monkeypatch.setattr(benchmark_ops, "CHANNELS", 8)  # of raw projections
    monkeypatch.setattr(benchmark_ops, "run_in_venv", lambda: None)
    monkeypatch.setattr(benchmark_measuring, "peak_mib", lambda *_: 1.0)


CASE = benchmark_ops.Case(64, 16, "cpu", "raw")
BACKENDS = ("mask", "gather")


def run(monkeypatch, tmp_path, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark_ops.py", "--device", "cpu", "--out", str(tmp_path), *arguments])
    return benchmark_ops.main()


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("attention", partial(benchmark_ops.measure_attention, CASE, BACKENDS, 1, None)),
        ("dictionary", partial(benchmark_ops.measure_dictionary, CASE, 1)),
        ("assa", partial(benchmark_ops.measure_assa, 3, 16, "cpu", 1, None)),
    ],
)
def test_a_row_has_every_backend(name, measure, capsys):
    row = measure()
    columns = benchmark_ops.columns(name, "cpu", BACKENDS)
    benchmark_ops.print_row(name, row, columns, header=True)
    assert set(row["backends"]) == set(columns)
    times = [cell[task] for cell in row["backends"].values() for task in benchmark_ops.TASKS if task in cell]
    assert all(number > 0 for each in times for number in each.values())
    assert len({len(line) for line in capsys.readouterr().out.splitlines()[2:]}) == 1, "columns line up"


def test_inputs_are_the_network_s_and_in_large_windows_as_wide_as_s(monkeypatch):
    monkeypatch.setattr(benchmark_ops, "CHANNELS", 180)
    small, shifted, large = (
        benchmark_ops.network_inputs(*each, None)
        for each in ((16, 32, "network"), (16, 32, "shifted"), (32, 32, "network"))
    )
    assert [each.q.shape for each in (small, large)] == [(4, 3, 256, 16), (1, 6, 1024, 30)]
    assert large.tokens.shape == (1, 1024, 180)
    assert large.bias.shape == (6, 63, 63)
    assert (small.regions is None, shifted.regions is None) == (True, False)
    ratio = (large.q @ large.k.mT).std() / (small.q @ small.k.mT).std()
    assert 0.8 < ratio < 1.25, "as peaked as the network's"
    _, tensors, semantics = benchmark_ops.Case(64, 16, "cpu", "shifted").make()
    assert semantics.counts().min() < 64
    assert tensors[0].shape == (4, 3, 64, 16)


def test_shares_used():
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[0, :16, :4] = mask[0, 16:, 4:8] = mask[1, :, 0] = True
    near, window = benchmark_ops.shares_used(mask)
    assert (near, window) == ((4 / 64 + 1 / 64) / 2, (8 / 64 + 1 / 64) / 2)


def test_a_floor_is_the_larger_of_two_times():
    floor = object.__new__(measuring.Floor)
    floor.flops_per_ms, floor.exponentials_per_ms = 100.0, 10.0
    assert floor.ms(1000, 10) == 10
    assert floor.ms(100, 50) == 5
    row = benchmark_ops.measure_attention(CASE, ("mask",), 1, floor)
    assert row["floor_ms"] == 4 * 6 * 64 * 16 * 30 * 4 / 100


def test_everything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(benchmark_ops.FASTEST, "cpu", "mask")
    monkeypatch.setattr(benchmark_ops, "KEYS", (8, 64))
    assert run(monkeypatch, tmp_path, "--backends", "mask", "--features", "network", "raw") == 0
    assert (tmp_path / "benchmark_ops_cpu.png").stat().st_size > 1000
    rows = [json.loads(line) for line in (tmp_path / "benchmark_ops_cpu.jsonl").read_text().splitlines()]
    assert [(row["op"], row["features"], row["k"]) for row in rows] == [
        *(("attention", features, k) for features in ("network", "raw") for k in (8, 64)),
        *(("dictionary", features, k) for features in ("network", "raw") for k in (8, 64)),
        ("assa", "", 16),
    ]
    table = (tmp_path / "benchmark_ops_cpu.md").read_text()
    costs = rows[0]["backends"]
    share = costs["mask"]["inference"]["processor"] / costs["dense"]["inference"]["processor"]
    assert (
        f"| network | 64 | 8 | {rows[0]['keys_used'][0]:.0%} | {rows[0]['threads']} | {rows[0]['isa']} | {share:.2f} |"
        in table
    )
    assert "commit" in table
    assert table in capsys.readouterr().out


def test_a_package_or_a_folder_that_is_missing_is_told_before_measuring(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_ops, "measure_all", lambda *_: pytest.fail("it is measured"))
    (tmp_path / "file").touch()
    assert run(monkeypatch, tmp_path / "file" / "out") == 2
    assert "out: cannot write there: Not a directory; choose another folder" in capsys.readouterr().err
    monkeypatch.setattr(errors, "find_spec", lambda _: None)
    assert run(monkeypatch, tmp_path) == 2
    assert capsys.readouterr().err == (
        "benchmark_ops: the plot of attention needs the package matplotlib: pip install matplotlib\n"
    )


def test_without_attention_nothing_is_plotted(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "matplotlib" else object())
    assert run(monkeypatch, tmp_path, "--ops", "dictionary", "--features", "raw") == 0
    assert not list(tmp_path.glob("*.png"))


def test_what_cannot_be_measured_is_told(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path, "--data", str(tmp_path)) == 2
    assert "has no PNG or JPEG images" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path, "--backends", "nativ")
    assert "unknown backend 'nativ'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("op", "wrong", "measure"),
    [
        ("attend", "gather", partial(benchmark_ops.measure_attention, CASE, BACKENDS)),
        ("assa", "torch", partial(benchmark_ops.measure_assa, 3, 16, "cpu")),
    ],
)
def test_a_backend_that_is_wrong_is_not_timed(monkeypatch, op, wrong, measure):
    right = getattr(benchmark_ops, op)
    monkeypatch.setattr(
        benchmark_ops, op, lambda backend, *rest: right(backend, *rest) + (0.01 if backend == wrong else 0)
    )
    with pytest.raises(SystemExit, match=f"{wrong} differs from naive"):
        measure(1, None)


def test_a_dictionary_that_is_wrong_is_not_timed(monkeypatch):
    from semanir_plugin.ops.key_semantics import OPERATORS

    right = OPERATORS["threshold"]
    monkeypatch.setitem(OPERATORS, "threshold", lambda *arguments: right(*arguments).roll(1, -1))
    with pytest.raises(SystemExit, match="threshold dictionary differs from naive"):
        benchmark_ops.measure_dictionary(CASE, 1)


def adding_ones(mib):
    return lambda: torch.ones(mib << 18).sum()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_high_water_mark_sees_a_tensor():
    grown = REAL_PEAK_MIB(adding_ones, (64,), "cpu")
    assert 55 < grown < 90


def test_the_compiler_that_training_imports_is_no_memory_of_what_is_measured():
    assert REAL_PEAK_MIB(importing_the_compiler, (), "cpu") < 10


def importing_the_compiler():
    return partial(import_module, "torch._dynamo")
