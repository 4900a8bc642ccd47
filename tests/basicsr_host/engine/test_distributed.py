"""Runs of several processes, started by torchrun on CPUs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs
from semanir_plugin.basicsr_host.engine import distributed, run
from semanir_plugin.basicsr_host.engine.distributed import (
    LostProcessError,
    detecting_lost_processes,
    init_distributed,
    read_timeout,
    report_failure,
)
from semanir_plugin.basicsr_host.engine.stopping import StopSignals
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.training_logs import read_run
from tests.conftest import ROOT, TINY_NETWORK, tiny_overrides

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_NODELIST", "SLURM_PROCID", "SLURM_NTASKS")
TRAIN = ROOT / "options" / "train_SemanIR_SRx4.yml"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
ITERATIONS = 12


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """As torchrun gives its processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def launch(commands, folder, *flags, **variables):
    """Run commands in two processes; return the code and the words of torchrun, when all processes are gone."""
    file = folder / "commands.json"
    file.write_text(json.dumps([[*each, "--launcher", "pytorch"] for each in commands]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    process = subprocess.Popen(
        [*TORCHRUN, *flags, "-m", "tests.basicsr_host.engine.processes", str(file)],
        **{"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True},
    )
    try:
        output, _ = process.communicate(timeout=400)  # all processes have the pipe, their workers too
    finally:
        if process.poll() is None:
            process.terminate()
    return process.returncode, output


def train_arguments(data, folder, batch, *flags, **more):
    options = {
        **{"path__experiments_root": folder, "datasets__train__batch_size_per_gpu": batch, "name": "run"},
        **{"train__total_iter": ITERATIONS, "logger__save_checkpoint_freq": 6, "val__val_freq": 6},
        **{"logger__print_freq": 1, "logger__use_tb_logger": "true", "val__save_img": "true", **more},
        **{f"datasets__val__dataroot_{side}": data / "three" / name for side, name in SIDES.items()},
    }
    return ["train", "-opt", str(TRAIN), *flags, "--force_yml", *tiny_overrides(data, **options)]


def growing_arguments(data, folder, batch):
    """As `train_arguments`: patches that grow, and k drawn from a list."""
    sizes = f"[{batch // 2}, {batch}]"
    more = {"datasets__train__batch_sizes_per_gpu": sizes, "datasets__train__gt_sizes": "[32, 48]"}
    more |= {"datasets__train__iters": "[8, 4]", "datasets__train__gt_size": "~", "network_g__topk": "[2, 6, 12, 24]"}
    return train_arguments(data, folder, "~", val__val_freq=99, **more)


def scoring_arguments(data, folder, name, checkpoint=None, **val):
    """Score the three images."""
    recipe = yaml.safe_load(TRAIN.read_text())
    paths = {"pretrain_network_g": checkpoint and str(checkpoint), "param_key_g": "params_ema"}
    options = {
        **{"name": name, "model_type": "SemanIRModel", "scale": 4, "num_gpu": 0, "manual_seed": 3},
        "datasets": {
            "test_1": {
                **{"name": "three", "type": "PairedImageDataset", "io_backend": {"type": "disk"}},
                **{f"dataroot_{side}": str(data / "three" / each) for side, each in SIDES.items()},
            }
        },
        "network_g": {**recipe["network_g"], **TINY_NETWORK, "upsampler": "pixelshuffledirect"},
        "path": {"results_root": str(folder), **paths},
        "val": {"save_img": True, "metrics": recipe["val"]["metrics"], **val},
    }
    file = folder / f"{name}.yml"
    file.write_text(json.dumps(options))  # JSON is YAML
    return ["test", "-opt", str(file)]


SIDES = {"gt": "GT", "lq": "LR_bicubic_X4"}


@pytest.fixture(scope="module")
def data(sr_data, photos):
    """`sr_data`, and three images of different sizes to score: an odd number for two processes."""
    sources = sr_data / "three_photos"
    if not sources.exists():
        sources.mkdir()
        for index, path in enumerate(list(photos.values())[:3]):
            cv2.imwrite(str(sources / f"{index}.png"), cv2.imread(str(path))[50 : 90 + 8 * index, 60 : 120 + 4 * index])
        write_sr_pairs(sources.iterdir(), sr_data / "three", 4)
    return sr_data


@pytest.fixture(scope="module")
def one(data, tmp_path_factory):
    """Run some commands in one process; return the folder of their results."""
    folder = tmp_path_factory.mktemp("one")
    for arguments in (
        train_arguments(data, folder / "plain", 4),
        growing_arguments(data, folder / "growing", 4),
        scoring_arguments(data, folder, "scores", topk=[2, 12]),
    ):
        assert main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def two(data, tmp_path_factory):
    """Run the same in two processes, with half of the batch each, and once more with a divided optimiser state."""
    folder = tmp_path_factory.mktemp("two")
    commands = [
        train_arguments(data, folder / "plain", 2),
        growing_arguments(data, folder / "growing", 2),
        train_arguments(data, folder / "divided", 2, train__zero_redundancy="true"),
        scoring_arguments(data, folder, "scores", topk=[2, 12]),
    ]
    code, output = launch(commands, folder)
    assert code == 0, output
    return folder


def records(folder):
    """Return the values in TensorBoard's files, in single precision, by series and iteration."""
    return read_run(folder / "tb_logger" / "run").series


def losses(folder):
    return records(folder)["losses/l_pix"]


def weights(folder, iteration=ITERATIONS):
    saved = torch.load(folder / "run" / "models" / f"net_g_{iteration}.pth", weights_only=True)
    return {f"{key}.{name}": value for key in ("params", "params_ema") for name, value in saved[key].items()}


def state(folder, iteration=ITERATIONS):
    return torch.load(folder / "run" / "training_states" / f"{iteration}.state", weights_only=True)


def assert_near(a, b, tolerance):
    assert a.keys() == b.keys()
    assert max(float(abs(torch.as_tensor(a[key]) - torch.as_tensor(b[key])).max()) for key in a) <= tolerance


@pytest.mark.parametrize(("launcher", "hint"), [("pytorch", "torchrun"), ("slurm", "srun")])
def test_a_launcher_that_did_not_launch_is_told(monkeypatch, launcher, hint):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=hint):
        init_distributed(launcher)


@pytest.mark.parametrize("name", ["plain", "growing"])
def test_two_processes_train_as_one_with_twice_the_batch(one, two, name):
    assert list(losses(one / name)) == list(range(1, ITERATIONS + 1))
    assert_near(losses(one / name), losses(two / name), 1e-5)
    # Adam divides by tiny second moments in the first steps, which magnifies rounding
    assert_near(weights(one / name), weights(two / name), 1e-4)


def images(folder):
    return {path.name.rpartition("_")[0]: path.read_bytes() for path in folder.rglob("*.png")}


def test_processes_that_share_a_test_set_score_it_as_one(one, two):
    scores = [json.loads((folder / "scores" / "metrics.json").read_text()) for folder in (one, two)]
    assert list(scores[0]) == list(scores[1]) == ["three_topk2", "three_topk12"]
    for values in (*scores[0].values(), *scores[1].values()):
        assert values.pop("seconds_per_image") > 0
        assert values["psnr"] > 5
    assert scores[0] == scores[1]
    for label in scores[0]:
        found = [images(folder / "scores" / "visualization" / label) for folder in (one, two)]
        assert len(found[0]) == 3
        assert found[0] == found[1]


@pytest.mark.parametrize("folder", ["plain/run", "scores"])
def test_each_process_scores_its_share(two, folder):
    notes = [two / folder / "visualization" / f"scored_{rank}.txt" for rank in (0, 1)]
    assert [note.read_text() for note in notes] == ["0 2 0 2 ", "1 1 "]  # twice: after 6 and 12, or with 12 and 2 keys


@pytest.mark.parametrize("iteration", [6, ITERATIONS])
def test_processes_that_share_a_validation_score_it_as_one(data, two, tmp_path, iteration):
    run = two / "plain" / "run"
    assert main(scoring_arguments(data, tmp_path, "alone", run / "models" / f"net_g_{iteration}.pth")) == 0
    scores = json.loads((tmp_path / "alone" / "metrics.json").read_text())["three"]
    best = state(two / "plain", iteration)["best_metric_results"]["Set5"]
    assert scores.keys() == best.keys()
    for name, value in scores.items():
        assert np.float32(value) == records(two / "plain")[f"metrics/Set5/{name}"][iteration]
        assert best[name]["val"] == value if best[name]["iter"] == iteration else best[name]["iter"] == 6
    saved = {path.name: path.read_bytes() for path in (run / "visualization").rglob("*.png")}
    assert len(saved) == 6
    assert {f"{name}_{iteration}.png": image for name, image in images(tmp_path).items()}.items() <= saved.items()


def test_a_divided_state_changes_nothing_but_who_holds_it(two):
    plain, divided = two / "plain", two / "divided"
    parts = [json.loads((divided / "run" / f"held_{rank}.json").read_text()) for rank in (0, 1)]
    whole = json.loads((plain / "run" / "held_0.json").read_text())
    assert sum(parts) == whole
    assert max(parts) < 0.6 * whole
    assert_near(losses(divided), losses(plain), 1e-6)
    assert_near(weights(divided), weights(plain), 1e-6)
    assert_near(flat(state(divided)["optimizers"]), flat(state(plain)["optimizers"]), 1e-6)


def test_a_divided_state_is_taken_up_by_one_process(data, one, two, tmp_path):
    shutil.copytree(two / "divided", tmp_path / "resumed")
    (tmp_path / "resumed" / "run" / "training_states" / f"{ITERATIONS}.state").unlink()
    arguments = train_arguments(data, tmp_path / "resumed", 4, "--auto_resume", train__zero_redundancy="true")
    assert main(arguments) == 0
    assert_near(losses(tmp_path / "resumed"), losses(one / "plain"), 1e-5)
    assert_near(weights(tmp_path / "resumed"), weights(one / "plain"), 1e-4)


def test_a_process_that_is_killed_ends_the_others(data, tmp_path):
    arguments = train_arguments(data, tmp_path, 2, datasets__train__num_worker_per_gpu=1)
    code, output = launch([arguments], tmp_path, SEMANIR_DIES_IN="3")
    assert code == 1
    assert "Signal 9 (SIGKILL)" in output
    assert "gloo/transport" not in output
    assert list(losses(tmp_path)) == [1, 2]


def test_torchrun_starts_again_and_ends_as_if_nothing_had_happened(data, two, tmp_path):
    arguments = train_arguments(data, tmp_path, 2, "--auto_resume", train__zero_redundancy="true")
    code, output = launch([arguments], tmp_path, "--max-restarts=1", SEMANIR_DIES_IN="8")
    assert code == 0, output
    assert "Signal 9" in output or "exitcode: -9" in output
    log = "".join(path.read_text() for path in sorted((tmp_path / "run").glob("*.log")))
    assert log.count("Resuming from") == 1
    assert losses(tmp_path) == losses(two / "divided")
    assert_near(weights(tmp_path), weights(two / "divided"), 0)


def flat(value, name=""):
    """Return the numbers of nested lists and dicts, by their paths."""
    if not isinstance(value, list | tuple | dict):
        return {} if isinstance(value, str | bool | None) else {name: torch.as_tensor(value)}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: leaf for key, each in items for path, leaf in flat(each, f"{name}/{key}").items()}


@pytest.mark.parametrize(("options", "minutes"), [({}, 30), ({"dist_params": {"timeout": 2.5}}, 2.5)], ids=["", "set"])
def test_a_process_waits_for_the_others_as_long_as_the_options_say(monkeypatch, options, minutes):
    waits = []

    def meet(url, *, timeout):
        waits.append(timeout)
        yield dist.HashStore(), 0, 1

    monkeypatch.setattr(distributed, "rendezvous", meet)
    for name in ("init_process_group", "new_group"):
        monkeypatch.setattr(dist, name, lambda *args, timeout, **kwargs: waits.append(timeout))
    for name in NAMES[:4]:
        monkeypatch.setenv(name, "0")
    init_distributed("pytorch", timeout=read_timeout(options))
    StopSignals(distributed=True, timeout=read_timeout(options))
    assert waits == [timedelta(minutes=minutes)] * 3


LEAVING = """
import atexit, time
from pathlib import Path

def count_threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo_runloop" in name for name in names)

counts = []
atexit.register(lambda: print(*counts, count_threads()))
from semanir_plugin.basicsr_host.engine.distributed import init_distributed
from semanir_plugin.basicsr_host.engine.stopping import StopSignals
init_distributed("pytorch")
signals = [StopSignals(distributed=True)]
signals[0].cycle = signals
deadline = time.monotonic() + 20
while count_threads() < 2 and time.monotonic() < deadline:
    time.sleep(0.01)  # a thread is named after it has started
counts.append(count_threads())
del signals
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_no_thread_of_gloo_outlives_python(tmp_path):
    """A thread that lets go of a tensor when Python has ended aborts the process."""
    names = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **names}
    done = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, env=environment, check=True)
    before, after = map(int, done.stdout.split())
    assert before >= 2
    assert after == 0


@pytest.fixture
def error_file(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    return tmp_path / "error.json"


def shown_by_torchrun(error_file):
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(error_file))
    return str(ChildFailedError("basicsr", {0: failure}))


def test_torchrun_shows_the_traceback_of_what_went_wrong(error_file, monkeypatch, capsys):
    monkeypatch.setattr(run, "read_option_file", lambda path, force_yml: 1 / 0)
    assert main(["train", "-opt", str(TRAIN)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    shown = shown_by_torchrun(error_file)
    assert "Traceback (most recent call last)" in shown
    assert "ZeroDivisionError: division by zero" in shown


def test_torchrun_shows_what_a_user_can_mend_in_one_line(error_file, capsys):
    assert main(["train", "-opt", "missing.yml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    shown = shown_by_torchrun(error_file)
    assert "traceback : missing.yml: cannot read the option file" in shown
    assert "Traceback" not in shown


def test_a_process_that_loses_another_is_not_the_cause(error_file, monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    told = r"another process .* \(connection reset by peer\)$"
    with pytest.raises(LostProcessError, match=told) as error, detecting_lost_processes():
        raise RuntimeError("[pair.cc:537] Read error [127.0.0.1]:4534: Connection reset by peer. GLHF!")
    report_failure(error.value)
    assert not error_file.exists()


@pytest.mark.parametrize(("together", "message"), [(True, "out of memory"), (False, "timed out")])
def test_other_failures_are_a_process_own(monkeypatch, together, message):
    monkeypatch.setattr(dist, "is_initialized", lambda: together)
    with pytest.raises(RuntimeError, match=f"^{message}$") as error, detecting_lost_processes():
        raise RuntimeError(message)
    assert not isinstance(error.value, LostProcessError)


def test_without_torchrun_nothing_is_left(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-opt", "missing.yml"]) == 2
    assert not list(tmp_path.iterdir())
