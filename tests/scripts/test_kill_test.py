from __future__ import annotations

import multiprocessing
import os
import random
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import kill_test


def train(folder, option_file, output):
    """What `Life.start` starts, in a process that has imported it all."""
    os.chdir(folder)
    file = os.open(output, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    from semanir_plugin.cli import main

    sys.exit(main(["train", "-opt", str(option_file), "--auto_resume"]))


class Forked:
    """A process with the methods of `subprocess.Popen` that `kill_test` calls."""

    def __init__(self, process):
        process.start()
        self.kill, self.terminate, self._process = process.kill, process.terminate, process

    def poll(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self._process.exitcode


class ForkedLife(kill_test.Life):
    """Forked from a process that has imported it all, which spares each start more than half of its time."""

    def start(self):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["semanir_plugin", "semanir_plugin.basicsr_host.engine.train"])
        arguments = (self.folder, self.folder.parent / f"{kill_test.NAME}.yml", self.output)
        self.output.write_text("")
        self.process = Forked(context.Process(target=train, args=arguments))


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_nobody_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if hasattr(os, "fork"):
        monkeypatch.setattr(kill_test, "Life", ForkedLife)
    result = kill_test.run_test(tmp_path, kills=2, workers=0, moments=random.Random(1))
    assert result.kills.total() == 2
    assert result.damaged == []
    assert result.differences == []
    assert result.compared > 1000
    assert result.kills.keys() == {"validating", "writing"}
    names = {path.name for path in (tmp_path / "killed" / "experiments" / "kill_test" / "models").iterdir()}
    assert names == {f"net_g_{name}.pth" for name in (26, 28, 30, "best", "latest")}


def test_every_difference_is_found():
    values = {"a": [1, 2.5, torch.arange(6.0).reshape(2, 3)], "b": {"c": (None, "x")}}
    others = {"a": [1, 2.5, torch.arange(6.0).reshape(2, 3)], "b": {"c": (None, "x")}}
    found = list(kill_test.compare_values("", values, others))
    assert len(found) == 5
    assert all(same for _, same in found)
    others["a"][2][1, 2] += 1e-6
    others["b"]["c"] = (None, "y")
    assert [place for place, same in kill_test.compare_values("", values, others) if not same] == [
        ": a: 2",
        ": b: c: 1",
    ]
    others["b"]["d"] = 0
    assert [place for place, same in kill_test.compare_values("", values, others) if not same] == [
        ": a: 2",
        ": b: c: 1",
        ": b: d",
    ]
    assert [same for _, same in kill_test.compare_values("", 1, 1.0)] == [False]


def test_a_damaged_checkpoint_is_found(tmp_path):
    (tmp_path / "models").mkdir()
    for name in ("whole", "damaged"):
        torch.save({"weight": torch.ones(5, 7)}, tmp_path / "models" / f"{name}.pth")
    path = tmp_path / "models" / "damaged.pth"
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(5).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    (found,) = kill_test.find_damaged(Path(tmp_path))
    assert str(path) in found
