from __future__ import annotations

import dataclasses
import sys
from functools import partial

import pytest
import torch

from semanir_plugin.ops.key_semantic_attention import native_backend
from semanir_plugin.ops.native_support import why_not
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_ops
import measuring

SMALL = dataclasses.replace(benchmark_ops.PLANS["cpu"], tokens=256, windows=(64,), assa_sizes=((3, 16),))
REAL_PEAK_MIB = measuring.peak_mib


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    if why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32):
        monkeypatch.setitem(benchmark_ops.PLANS, "cpu", dataclasses.replace(SMALL, attention=SMALL.attention[:-1]))
    else:
        monkeypatch.setitem(benchmark_ops.PLANS, "cpu", SMALL)
    monkeypatch.setattr(benchmark_ops, "CHANNELS", 8)
    monkeypatch.setattr(measuring, "peak_mib", lambda *_: 1.0)


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("attention", partial(benchmark_ops.measure_attention, 64, 16)),
        ("dictionary", partial(benchmark_ops.measure_dictionary, 64, 16)),
        ("assa", partial(benchmark_ops.measure_assa, 3, 16)),
    ],
)
def test_a_row_has_every_backend(name, measure, capsys):
    row = measure("cpu", 1, None)
    columns = benchmark_ops.columns(name, "cpu")
    benchmark_ops.print_row(name, row, columns, header=True)
    assert set(row["backends"]) == set(columns)
    assert all(number > 0 for cell in row["backends"].values() for number in cell.values() if number is not None)
    assert len({len(line) for line in capsys.readouterr().out.splitlines()[2:]}) == 1, "columns line up"


def test_a_floor_is_the_larger_of_two_times():
    floor = object.__new__(measuring.Floor)
    floor.flops_per_ms, floor.exponentials_per_ms = 100.0, 10.0
    assert floor.ms(1000, 10) == 10
    assert floor.ms(100, 50) == 5
    row = benchmark_ops.measure_attention(64, 16, "cpu", 1, floor)
    assert row["floor_ms"] == 4 * 6 * 64 * 16 * 30 * 4 / 100


def test_everything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_ops, "run_in_venv", lambda: None)
    monkeypatch.setattr(sys, "argv", ["benchmark_ops.py", "--device", "cpu", "--out", str(tmp_path)])
    assert benchmark_ops.main() == 0
    assert (tmp_path / "benchmark_ops_cpu.png").stat().st_size > 1000
    assert '"keys_used"' in (tmp_path / "benchmark_ops_cpu.json").read_text()
    assert "commit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("op", "wrong", "measure"),
    [
        ("attend", "gather", partial(benchmark_ops.measure_attention, 64, 16)),
        ("assa", "torch", partial(benchmark_ops.measure_assa, 3, 16)),
    ],
)
def test_a_backend_that_is_wrong_is_not_timed(monkeypatch, op, wrong, measure):
    right = getattr(benchmark_ops, op)
    monkeypatch.setattr(
        benchmark_ops, op, lambda backend, *rest: right(backend, *rest) + (0.01 if backend == wrong else 0)
    )
    with pytest.raises(SystemExit, match=f"{wrong} differs from naive"):
        measure("cpu", 1, None)


def test_a_dictionary_that_is_wrong_is_not_timed(monkeypatch):
    from semanir_plugin.ops.key_semantics import threshold

    right = threshold.select_keys
    monkeypatch.setattr(threshold, "select_keys", lambda *arguments: right(*arguments).roll(1, -1))
    with pytest.raises(SystemExit, match="threshold dictionary differs from naive"):
        benchmark_ops.measure_dictionary(64, 16, "cpu", 1, None)


def test_images_are_cut_without_a_rest():
    for tokens, windows in ((4096, (256, 1024)), (65536, (512, 1024, 2048, 4096))):
        for n in windows:
            height, width = benchmark_ops.image_size(tokens, n)
            assert height * width % n == 0
            assert height * width > 0.8 * tokens


def adding_ones(mib):
    return lambda: torch.ones(mib << 18).sum()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_high_water_mark_sees_a_tensor():
    grown = REAL_PEAK_MIB(adding_ones, (64,), "cpu")
    assert 55 < grown < 90
