"""Workers of loaders that die, and LMDBs in workers however they are started."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import struct
import time
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import SemLock
from pathlib import Path

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from semanir_plugin.basicsr_host.engine import batches
from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.cli import main
from tests.conftest import ROOT, tiny_overrides

NAME = "train_SemanIR_SRx4"
RUN = Path("experiments", NAME)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(data, *flags, **more):
    often = {"val__val_freq": 100, "logger__save_checkpoint_freq": 100, "train__total_iter": 30}
    more = {**often, "datasets__train__num_worker_per_gpu": 2, **more}
    opt = str(ROOT / "options" / f"{NAME}.yml")
    return main(["train", "-opt", opt, *flags, "--force_yml", *tiny_overrides(data, **more)])


def network(folder=RUN, iteration=30):
    saved = torch.load(folder / "models" / f"net_g_{iteration}.pth", weights_only=True)
    return {f"{key}.{name}": value for key in ("params", "params_ema") for name, value in saved[key].items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def straight(sr_data, tmp_path_factory):
    """The network of a training in which nothing dies."""
    folder = tmp_path_factory.mktemp("straight")
    assert train(sr_data, datasets__train__num_worker_per_gpu=0, path__experiments_root=folder) == 0
    return network(folder / NAME)


@pytest.fixture
def killing(monkeypatch):
    """Kill a worker within each of some iterations, as the kernel does where memory is short."""

    def within(*iterations):
        iterate = TrainingLoop._iterate

        def kill(self, current_iter, batch):
            if current_iter in iterations:
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
                time.sleep(0.2)  # a handler that raises would do so here
            iterate(self, current_iter, batch)

        monkeypatch.setattr(TrainingLoop, "_iterate", kill)

    return within


@pytest.mark.parametrize("more", [{}, {"prefetch_mode": "cpu"}], ids=str)
def test_others_take_the_place_of_dead_workers(sr_data, straight, capsys, monkeypatch, killing, more):
    killing(2, 14)  # batches that were read before hide a death for some iterations
    handlers, kill = [], BaseProcess.kill

    def recording(process):
        handlers.append(signal.getsignal(signal.SIGCHLD))
        kill(process)

    monkeypatch.setattr(BaseProcess, "kill", recording)
    assert train(sr_data, **{f"datasets__train__{key}": value for key, value in more.items()}) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert len(told) == 2
    pattern = r"Iteration \d+: worker \d+ of the loader died with exit code -9; new workers go on from here\.$"
    assert all(re.search(pattern, line) for line in told)
    assert same(network(), straight)
    assert not multiprocessing.active_children()
    assert handlers == [signal.SIG_DFL] * 4, "torch's would raise for those that are ended"


def test_too_many_deaths_end_the_training_with_all_before_saved(sr_data, straight, capsys, killing, monkeypatch):
    assert (batches.MOST, batches.WITHIN) == (5, 1000)
    monkeypatch.setattr(batches, "MOST", 2)
    killing(2, 14)
    assert train(sr_data) == 2
    *_, before, last = capsys.readouterr().err.splitlines()
    assert re.match(
        r"basicsr train: workers of loaders died 2 times within 1,000 iterations \(the last: .*\); if "
        r"memory is short, lower datasets\.train\.num_worker_per_gpu; if /dev/shm is \(exit code -7\), enlarge it: .*$",
        last,
    )
    done = re.search(r"Iteration (\d+) is saved, --auto_resume goes on after it\.$", before)
    assert 14 <= int(done[1]) < 30
    killing()
    assert train(sr_data, "--auto_resume") == 0
    assert same(network(), straight)


def test_deaths_that_lie_far_apart_are_not_too_many(sr_data, killing, monkeypatch):
    monkeypatch.setattr(batches, "MOST", 2)
    monkeypatch.setattr(batches, "WITHIN", 3)
    killing(2, 14)
    assert train(sr_data) == 0


def broken_off(self, timeout=0.1):
    """Fail as the transfer of a batch does whose worker dies in the midst of it."""
    os.kill(self._workers[0].pid, signal.SIGKILL)
    raise ConnectionResetError("Connection reset by peer")


def test_a_death_that_breaks_off_a_batch(sr_data, straight, monkeypatch, capsys):
    fetch = _MultiProcessingDataLoaderIter._try_get_data
    calls = iter([fetch, fetch, broken_off])
    monkeypatch.setattr(
        _MultiProcessingDataLoaderIter, "_try_get_data", lambda self, timeout=0.1: next(calls, fetch)(self, timeout)
    )
    assert train(sr_data) == 0
    assert "died with exit code -9; new workers" in capsys.readouterr().err
    assert same(network(), straight)


def lock_all(what):
    """Take each lock that an object of multiprocessing has, as far as this process does not hold it."""
    for each in vars(what).values():
        if isinstance(each, SemLock):
            each.acquire(block=False)
        elif type(each).__module__.startswith("multiprocessing.sync"):
            lock_all(each)


def break_off(queue):
    """Send the head of a long message, and 3 bytes of it, once all before is read, as one does that dies in `write`."""
    queue._wlock.acquire()
    while queue._poll():
        time.sleep(0.01)
    time.sleep(0.2)
    os.write(queue._writer.fileno(), struct.pack("!i", 2**20) + b"abc")


class DyingWhenAsked:
    """An event whose holder dies while it asks for the `last`-th time, with whatever locks that takes."""

    def __init__(self, event, last):
        self.event, self.left = event, last

    def is_set(self):
        self.left -= 1
        if not self.left:
            lock_all(self.event)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.event.is_set()


class DyingWhenRead(DyingWhenAsked):
    """A queue whose reader dies as it waits for an index, after something was done to another, or to the queue."""

    def __init__(self, queue, last, do):
        super().__init__(queue, last)
        self.do = do

    def get(self, timeout):
        self.left -= 1
        if not self.left:
            self.do()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.event.get(timeout=timeout)


HELD = {
    "the event's": lambda indices, results, done: (indices, results, DyingWhenAsked(done, 4)),
    "its queue's": lambda indices, results, done: (
        DyingWhenRead(indices, 4, partial(lock_all, indices)),
        results,
        done,
    ),
    "the results'": lambda indices, results, done: (
        DyingWhenRead(indices, 4, results._wlock.acquire),
        results,
        done,
    ),
    "half a result": lambda indices, results, done: (
        DyingWhenRead(indices, 4, partial(break_off, results)),
        results,
        done,
    ),
}


@pytest.mark.parametrize("held", HELD)
def test_what_a_dead_worker_held_keeps_nobody_waiting(sr_data, straight, monkeypatch, capsys, held):
    loop, deaths = torch.utils.data._utils.worker._worker_loop, multiprocessing.Value("i", 2)

    def dying(kind, dataset, indices, results, done, *rest):
        with deaths:
            deaths.value -= 1
            first = deaths.value == 1
        loop(kind, dataset, *(HELD[held](indices, results, done) if first else (indices, results, done)), *rest)

    monkeypatch.setattr(torch.utils.data._utils.worker, "_worker_loop", dying)
    assert train(sr_data) == 0
    assert capsys.readouterr().err.count("died with exit code -9; new workers go on from here.") == 1
    assert same(network(), straight)
    assert not multiprocessing.active_children()


def failing_with(error):
    def fail(*_, **__):
        raise error

    return fail


NO_MEMORY = "unable to allocate shared memory(shm) for file </torch_5_7_0>: No space left on device (28)"


NO_FILES = RuntimeError("received 0 items of ancdata")
SHARE = "torch.UntypedStorage._new_using_fd_cpu"


@pytest.mark.parametrize(
    ("what", "error", "told"),
    [
        (SHARE, RuntimeError(NO_MEMORY), "docker run --shm-size=8g"),
        ("torch.UntypedStorage._share_fd_cpu_", RuntimeError(NO_MEMORY), "docker run --shm-size=8g"),  # in a thread
        (
            "semanir_plugin.basicsr_host.engine.loader_workers._Queue",
            OSError(28, "No space"),
            "docker run --shm-size=8g",
        ),
        (SHARE, OSError(24, "Too many open files"), "(ulimit -n 65536)"),
        ("multiprocessing.resource_sharer.DupFd.detach", NO_FILES, "(ulimit -n 65536)"),  # in the training
    ],
)
def test_limits_of_the_machine_are_told_with_their_cure(sr_data, monkeypatch, capsys, what, error, told):
    monkeypatch.setattr(what, failing_with(error))
    assert train(sr_data) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert told in line
    assert "or lower datasets.train.num_worker_per_gpu; 0 needs none of it" in line
    assert len(line) < 250


def test_another_error_of_a_worker_is_its_last_line(sr_data, monkeypatch, capsys):
    monkeypatch.setattr("torch.UntypedStorage._new_using_fd_cpu", failing_with(RuntimeError("it is so")))
    assert train(sr_data) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "basicsr train: failed with RuntimeError: it is so (--debug shows where)"


def test_what_is_no_death_is_not_mended(sr_data, monkeypatch, capsys):
    monkeypatch.setattr(batches, "CPUPrefetcher", lambda loader: (_ for _ in ()).throw(RuntimeError("x")))
    assert train(sr_data) == 1
    assert "failed with RuntimeError: x" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def started(request):
    """Set the start method of workers."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def same_lmdbs(sr_data):
    """Options by which validation reads what is trained on."""
    roots = {"gt": sr_data / "train" / "GT.lmdb", "lq": sr_data / "train" / "LR_bicubic_X4.lmdb"}
    roots = {f"datasets__val__dataroot_{key}": root for key, root in roots.items()}
    return {**roots, "datasets__val__io_backend": "{type: lmdb}", "val__val_freq": 2}


@pytest.mark.parametrize("started", ["fork", pytest.param("spawn", marks=pytest.mark.slow)], indirect=True)
def test_workers_read_lmdbs_that_validation_has_open(sr_data, straight, same_lmdbs, started, killing):
    if multiprocessing.get_start_method() == "fork":  # to spawn a second time takes long
        killing(7)
    assert train(sr_data, **same_lmdbs) == 0
    assert same(network(), straight)


def test_one_process_trains_and_validates_on_the_same_lmdb(sr_data, straight, same_lmdbs):
    assert train(sr_data, datasets__train__num_worker_per_gpu=0, **same_lmdbs) == 0
    assert same(network(), straight)
