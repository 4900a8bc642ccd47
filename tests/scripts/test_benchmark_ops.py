from __future__ import annotations

import sys

import pytest
import torch

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_ops


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(benchmark_ops, "TOKENS", 256)
    monkeypatch.setattr(benchmark_ops, "CHANNELS", 8)
    monkeypatch.setattr(benchmark_ops, "peak_mb", lambda backend, n, k: 1.0)


def test_a_row_has_every_backend(capsys, tmp_path):
    row = benchmark_ops.measure_row(64, 16, repeats=1)
    benchmark_ops.print_row(row, header=True)
    benchmark_ops.plot([row], tmp_path / "plot.png")
    assert set(row["backends"]) == {"mask", "gather", "sdpa", "blockwise", "dense"}
    assert all(cell["training_ms"] > 0 for cell in row["backends"].values())
    assert len({len(line) for line in capsys.readouterr().out.splitlines()[1:]}) == 1, "columns line up"
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_backend_that_is_wrong_is_not_timed(monkeypatch):
    right = benchmark_ops.attend

    def wrong(backend, tensors, semantics):
        return right(backend, tensors, semantics) + (0.01 if backend == "gather" else 0)

    monkeypatch.setattr(benchmark_ops, "attend", wrong)
    with pytest.raises(SystemExit, match="gather differs from naive"):
        benchmark_ops.measure_row(64, 16, repeats=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_high_water_mark_sees_a_tensor():
    before = benchmark_ops._high_water_mb()
    (benchmark_ops.Path("/proc/self/clear_refs")).write_text("5")
    before = benchmark_ops._high_water_mb()
    torch.ones(64 << 18)  # 64 MiB
    assert 55 < benchmark_ops._high_water_mb() - before < 90
