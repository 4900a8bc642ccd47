"""A training in TensorBoard and in Weights & Biases: the real ones, on what one training left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.training_logs import read_run
from tests.conftest import ROOT, tiny_overrides

OPTIONS = {
    "name": "run",
    "train__total_iter": 4,
    "val__val_freq": 2,
    "logger__print_freq": 1,
    "logger__use_tb_logger": "true",
    "logger__wandb__project": "tracked",
}
# Told which folder to follow, wandb does not wait ten seconds for others.
TRAIN = """
import sys, wandb
wandb.tensorboard.patch(root_logdir="tb_logger/run")
from semanir_plugin.cli import main
sys.exit(main(sys.argv[1:]))
"""


def train(folder, data, *, code=TRAIN, **more):
    recipe = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
    command = [sys.executable, "-c", code, "train", "-opt", recipe, "--force_yml"]
    command += tiny_overrides(data, **{**OPTIONS, **more})
    unset = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment = {**unset, "PYTHONPATH": str(ROOT), "HOME": str(folder), "WANDB_MODE": "offline"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, sr_data) -> Path:
    """The working directory of a training that was tracked by both."""
    folder = tmp_path_factory.mktemp("tracked")
    done = train(folder, sr_data)
    assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def tensorboard(folder):
    """Run the real TensorBoard on a free port for the length of the block, in which its address is known."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    log = folder / "tensorboard.log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), process, log)[0]
        finally:
            process.kill()


def wait_for(look, process, log, seconds=60):
    """Look until something is there; fails at the limit, or when the process has ended."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert process is None or process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found


def scalars(address, tag):
    """TensorBoard's values of a tag by iteration; nothing while it has not read them."""
    try:
        with urlopen(f"{address}/data/plugin/scalars/scalars?run=run&tag={tag}", timeout=10) as answer:
            return {step: value for _, step, value in json.load(answer)}
    except URLError:  # it answers that there is no such run
        return {}


def test_tensorboard_shows_what_training_wrote(tracked):
    folder = tracked / "tb_logger"
    written = read_run(folder / "run").series
    with tensorboard(folder) as address:
        shown = wait_for(lambda: scalars(address, "losses/l_pix"), None, folder / "tensorboard.log")
        assert shown == pytest.approx(written["losses/l_pix"])
        assert list(shown) == [1, 2, 3, 4]
        assert scalars(address, "metrics/Set5/psnr") == pytest.approx(written["metrics/Set5/psnr"])


def records(path):
    """The records of wandb's file: LevelDB's log, parts of them in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if at % 32768 > 32768 - 7:  # no room for the head of a part
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        at += 7 + length
        record += content[at - length : at]
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(record)
            record = b""


def test_wandb_records_what_training_wrote(tracked):
    (path,) = tracked.glob("wandb/offline-run-*/run-*.wandb")
    found = list(records(path))
    (run,) = (record.run for record in found if record.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.project, run.display_name) == ("tracked", "run")
    assert config["network_g"]["type"] == "SemanIR"
    history = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in found
    ]
    losses = {step["global_step"]: step["losses/l_pix"] for step in history if "losses/l_pix" in step}
    assert losses == pytest.approx(read_run(tracked / "tb_logger" / "run").series["losses/l_pix"])
    (log,) = tracked.glob("experiments/run/*.log")
    assert f"Use wandb logger with id={run.run_id}; project=tracked." in log.read_text()


@pytest.mark.parametrize(("resume_id", "resume"), [(None, "never"), ("abc", "allow")])
def test_wandb_goes_on_with_a_run_that_is_named(monkeypatch, resume_id, resume):
    import wandb
    from basicsr.utils import init_wandb_logger

    asked = []
    monkeypatch.setattr(wandb, "init", lambda **options: asked.append(options) or SimpleNamespace(id="abc"))
    init_wandb_logger({"name": "run", "logger": {"wandb": {"project": "tracked", "resume_id": resume_id}}})
    assert (asked[0]["id"], asked[0]["resume"]) == (resume_id, resume)


def test_wandb_without_a_login_is_told_in_one_line(monkeypatch):
    import wandb
    from basicsr.utils import init_wandb_logger

    def refuse(**options):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    message = r"^logger:wandb: No API key configured. Use `wandb login` to log in; or set WANDB_MODE=offline, and"
    with pytest.raises(UserError, match=message):
        init_wandb_logger({"name": "run", "logger": {"wandb": {"project": "tracked"}}})
