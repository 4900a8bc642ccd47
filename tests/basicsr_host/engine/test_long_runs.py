"""Test that the memory of a training does not grow with its iterations.

SEMANIR_LONG_RUN=2000 trains so many instead of a few; with pytest's -s it says what memory they took.
"""

from __future__ import annotations

import gc
import os
from multiprocessing import active_children
from pathlib import Path
from statistics import median

import pytest
import torch

from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.cli import main
from tests.conftest import ROOT, tiny_overrides

ITERATIONS = int(os.environ.get("SEMANIR_LONG_RUN", 120))
NAME = "train_SemanIR_SRx4"


def resident(pid) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def watched(monkeypatch):
    """Record memory after each iteration: bytes of this process and of its workers, numbers of tensors and objects."""
    follow_up, seen = TrainingLoop._follow_up, []

    def watch(self, current_iter, timers):
        follow_up(self, current_iter, timers)
        counts = None
        if current_iter in (ITERATIONS // 2, ITERATIONS - 1):
            gc.collect()
            objects = gc.get_objects()
            counts = sum(isinstance(each, torch.Tensor) for each in objects), len(objects)
        workers = sum(resident(worker.pid) for worker in active_children())
        seen.append((resident(os.getpid()), workers, counts))

    monkeypatch.setattr(TrainingLoop, "_follow_up", watch)
    return seen


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_does_not_grow(sr_data, tmp_path, monkeypatch, watched):
    monkeypatch.chdir(tmp_path)
    often = ITERATIONS // 20
    more = {
        "train__total_iter": ITERATIONS,
        "datasets__train__num_worker_per_gpu": 2,
        "val__val_freq": often,
        "logger__save_checkpoint_freq": often,
        "logger__keep_checkpoints": 2,
        "logger__print_freq": 2,
        "logger__use_tb_logger": "true",
    }
    opt = str(ROOT / "options" / f"{NAME}.yml")
    assert main(["train", "-opt", opt, "--force_yml", *tiny_overrides(sr_data, **more)]) == 0
    assert len(watched) == ITERATIONS
    tenth = ITERATIONS // 10
    for name, series in zip(("this process", "its workers"), list(zip(*watched, strict=True))[:2], strict=True):
        early, late = median(series[2 * tenth : 3 * tenth]), median(series[-tenth:-1])
        print(f"{name}: {early / 1e6:.1f} MB after {2 * tenth:,} iterations, {late / 1e6:.1f} MB at the end")
        assert late < 1.02 * early
    (tensors, objects), (tensors_later, objects_later) = (counts for *_, counts in watched if counts)
    assert tensors_later <= tensors + 2
    assert objects_later < objects + ITERATIONS / 4
