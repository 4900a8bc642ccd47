"""Two runs of one name at a time: the second is refused, and nothing of the first is touched."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from semanir_plugin.basicsr_host.engine import run_lock
from semanir_plugin.basicsr_host.engine.run_lock import run_locked
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from tests.conftest import ROOT, tiny_overrides

NAME = "train_SemanIR_SRx4"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_lock, "PATIENCE", 0.1)


def arguments(data, *flags, **more):
    more = {"train__total_iter": 2, "val__val_freq": 2, **more}
    return [
        "train",
        "-opt",
        str(ROOT / "options" / f"{NAME}.yml"),
        *flags,
        "--force_yml",
        *tiny_overrides(data, **more),
    ]


class Started:
    """What the lock needs of a run."""

    def __init__(self, name, rank=0):
        self.opt = {"is_train": True, "rank": rank, "path": {"experiments_root": f"experiments/{name}"}}


def children(parent):
    """Processes that one has started, but for those that share no memory with it."""
    return [int(each) for path in Path(f"/proc/{parent}/task").glob("*/children") for each in path.read_text().split()]


def is_alive(pid):
    """Whether a process runs; one that has ended may wait for someone to ask how."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_second_run_of_the_name_is_refused_with_who_holds_it():
    with run_locked(Started("a")), run_locked(Started("b")), run_locked(Started("a", rank=1)):
        holder = rf"process {os.getpid()} on {re.escape(platform.node())}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
        told = rf"^experiments/a is written by {holder}; wait for its end, or give this run another name$"
        with pytest.raises(UserError, match=told), run_locked(Started("a")):
            pass
    with run_locked(Started("a")):
        pass


def test_links_lead_to_the_same_run():
    Path("experiments/a").mkdir(parents=True)
    Path("other").mkdir()
    Path("other/b").symlink_to(Path("experiments/a").absolute())
    Path("third").symlink_to("experiments")
    with run_locked(Started("a")):
        for name in ("../other/b", "../third/a"):
            with (
                pytest.raises(UserError, match=f"^experiments/{name} is written by process"),
                run_locked(Started(name)),
            ):
                pass


def test_a_finished_run_holds_nothing(sr_data):
    assert main(arguments(sr_data)) == 0
    assert main(arguments(sr_data)) == 0
    assert not list(Path("experiments/.locks").glob("*.json"))


def test_a_killed_run_holds_nothing(sr_data):
    more = {"train__total_iter": 100_000, "datasets__train__num_worker_per_gpu": 1}
    command = [sys.executable, "-m", "semanir_plugin.cli", *arguments(sr_data, **more)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    holder = Path("experiments/.locks", f"{NAME}.json")
    try:
        for _ in range(600):
            if holder.exists():
                break
            time.sleep(0.1)
        before = sorted(Path("experiments").rglob("*"))
        assert main(arguments(sr_data)) == 2
        assert main(arguments(sr_data, "--auto_resume")) == 2
        assert set(before) <= set(Path("experiments").rglob("*")), "nothing was set aside"
        while not (workers := children(process.pid)):
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(200):
        if not any(map(is_alive, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_alive, workers)), "they end with the process they serve"
    assert holder.exists()
    assert main(arguments(sr_data)) == 0


def test_where_nothing_can_be_locked_a_warning_says_so(sr_data, monkeypatch, capsys):
    def refuse(self):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert main(arguments(sr_data)) == 0
    assert f"this file system locks nothing; do not start '{NAME}' twice." in capsys.readouterr().err
