"""SIGTERM and SIGINT during a training."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from semanir_plugin.basicsr_host.engine import run as run_module
from semanir_plugin.basicsr_host.engine import stopping
from semanir_plugin.basicsr_host.engine import train as train_module
from semanir_plugin.basicsr_host.engine.stopping import StopSignals
from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.cli import main
from tests.conftest import ROOT, tiny_overrides

NAME = "train_SemanIR_SRx4"
RUN = Path("experiments", NAME)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _heeding_signals():
    """Restore Python's handler of SIGINT, which a shell's background processes, and so the tests, ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def train(data, *flags, **more):
    more = {"val__val_freq": 4, "logger__save_checkpoint_freq": 4, "train__total_iter": 6, **more}
    opt = str(ROOT / "options" / f"{NAME}.yml")
    return main(["train", "-opt", opt, *flags, "--force_yml", *tiny_overrides(data, **more)])


@pytest.fixture
def signalled(monkeypatch):
    """Have signals reach this process, and its workers, within the iteration 3."""

    def at_iteration_3(*numbers):
        iterate = TrainingLoop._iterate

        def send(self, current_iter, batch):
            if current_iter == 3:
                for number in numbers:
                    for worker in multiprocessing.active_children():
                        os.kill(worker.pid, number)
                    os.kill(os.getpid(), number)
            iterate(self, current_iter, batch)

        monkeypatch.setattr(TrainingLoop, "_iterate", send)

    return at_iteration_3


def network(folder=RUN):
    return torch.load(folder / "models" / "net_g_6.pth", weights_only=True)


def states():
    return sorted(path.name for path in (RUN / "training_states").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_saves_and_a_resumed_run_ends_as_one_without(sr_data, tmp_path, capfd, signalled, number, workers):
    more = {"datasets__train__num_worker_per_gpu": workers}
    assert train(sr_data, path__experiments_root=tmp_path / "straight", **more) == 0
    before = [signal.getsignal(each) for each in stopping.SIGNALS]
    signalled(number)
    assert train(sr_data, **more) == 75
    error = capfd.readouterr().err
    assert f"{number.name}: finishing the iteration and saving; another signal ends the run at once" in error
    assert "WARNING: Told to stop: iteration 3 is saved, --auto_resume goes on after it." in error.splitlines()[-1]
    assert states() == ["3.state"]
    assert [signal.getsignal(each) for each in stopping.SIGNALS] == before
    assert train(sr_data, "--auto_resume", **more) == 0
    assert states() == ["3.state", "4.state", "6.state"]
    resumed, straight = network(), network(tmp_path / "straight" / NAME)
    assert all(
        torch.equal(resumed[key][name], straight[key][name])
        for key in ("params", "params_ema")
        for name in resumed[key]
    )


def test_an_echo_of_a_signal_is_the_same_request(sr_data, signalled):
    signalled(signal.SIGINT, signal.SIGINT, signal.SIGTERM)
    assert train(sr_data) == 75
    assert states() == ["3.state"]


def test_an_iteration_is_validated_before_a_signal_ends_the_run(sr_data, signalled):
    signalled(signal.SIGTERM)
    assert train(sr_data, val__val_freq=3) == 75
    assert torch.load(RUN / "training_states" / "3.state", weights_only=True)["validated"]
    assert sum(log.read_text().count("Validation Set5") for log in RUN.glob("*.log")) == 1


def ask_after_a_signal_to(told, rank, rendezvous):
    """In one of two processes: ask twice whether to stop, before and after one of them is told."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    with StopSignals(distributed=True) as signals:
        assert not signals.requested()
        if rank == told:
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested()


@pytest.mark.parametrize("told", [0, 1])
def test_all_processes_stop_whichever_is_told(tmp_path, told):
    context = multiprocessing.get_context("fork")
    rendezvous = tmp_path / "rendezvous"
    processes = [context.Process(target=ask_after_a_signal_to, args=(told, rank, rendezvous)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_second_signal_ends_at_once(sr_data, signalled, monkeypatch, capsys):
    monkeypatch.setattr(stopping, "ECHO", -1)
    signalled(signal.SIGINT, signal.SIGINT)
    assert train(sr_data) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "basicsr train: interrupted"
    assert states() == []


def test_a_signal_within_the_last_iteration_changes_nothing(sr_data, signalled):
    signalled(signal.SIGTERM)
    assert train(sr_data, train__total_iter=3) == 0
    assert (RUN / "models" / "net_g_latest.pth").is_file()


def test_a_second_sigterm_kills():
    code = (
        "import os, signal; from semanir_plugin.basicsr_host.engine import stopping; stopping.ECHO = -1\n"
        "with stopping.StopSignals() as signals:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); assert signals.requested(); os.kill(os.getpid(), signal.SIGTERM)\n"
        "    raise SystemExit(0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGTERM


def test_what_a_process_was_started_to_ignore_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what runs in its background
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert not signals.requested()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["read_run_options", "build_run_model"])
def test_a_signal_before_the_first_iteration_ends_with_the_same_code(sr_data, number, where, monkeypatch, capsys):
    module = {"read_run_options": run_module, "build_run_model": train_module}[where]
    monkeypatch.setattr(module, where, lambda *args, **options: signal.raise_signal(number))
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert train(sr_data) == 75
    told = f"basicsr train: {signal.Signals(number).name}: told to stop where nothing is to be saved"
    assert capsys.readouterr().err.splitlines()[-1] == told
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert not (Path("experiments") / NAME).exists()
