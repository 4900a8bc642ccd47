"""Commands that are killed as they write: no file is half of one, and the same command ends as one that nobody touched.

What prepares data, and goes on where it was killed, has its own tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from semanir_plugin.cli import main
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import build_network
from tests.conftest import ROOT, TINY_NETWORK

COMPACT = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 4}


def restore(data: Path) -> list[str]:
    torch.manual_seed(0)
    save_weights("model.safetensors", build_network(COMPACT, ""), COMPACT)
    flags = ["-o", "results", "--model", "model.safetensors", "--skip-existing"]
    return ["restore", str(data / "val" / "LR_bicubic_X4"), *flags]


def score(data: Path) -> list[str]:
    """Score a network of `TINY_NETWORK`'s on the validation set."""
    network = {"type": "SemanIR", "upscale": 4, "upsampler": "pixelshuffledirect", **TINY_NETWORK}
    roots = {"dataroot_gt": str(data / "val" / "GT"), "dataroot_lq": str(data / "val" / "LR_bicubic_X4")}
    options = {
        **{"name": "scored", "model_type": "SemanIRModel", "scale": 4, "num_gpu": 0, "manual_seed": 1},
        "datasets": {"test_1": {"name": "val", "type": "PairedImageDataset", **roots}},
        **{"network_g": network, "path": {}},
        "val": {"save_img": True, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 4}}},
    }
    Path("x.yml").write_text(yaml.safe_dump(options))
    return ["test", "-opt", "x.yml"]


def compare(data: Path) -> list[str]:
    board = {"name": "board", "task": "sr", "protocol": "sr_y_crop", "scale": 4, "num_gpu": 0, "cost": None}
    board |= {"models": {"bicubic": {"classical": "bicubic"}}, "test_sets": {"val": {"gt": str(data / "val" / "GT")}}}
    Path("board.yml").write_text(yaml.safe_dump(board))
    return ["leaderboard", "-opt", "board.yml"]


DYING = """
import os, signal, sys
from pathlib import Path
from semanir_plugin.cli import main

replace, left = Path.replace, int(sys.argv[1])

def replaced(self, target):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(self, target)

Path.replace = replaced
sys.exit(main(sys.argv[2:]))
"""


def killed_after(files: int, arguments: list[str]) -> bool:
    """Run a command that is killed with a file written that has not its name yet, after so many others."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DYING, str(files), *arguments]
    return subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL


def results(folder: Path = Path("results")) -> dict[str, bytes]:
    """Images, scores, and halves of any file, but for what was set aside."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".png", ".csv", ".tmp")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "_archived_" not in str(path)}


@pytest.mark.parametrize(
    ("command", "files"),
    [(restore, 1), (score, 0), (compare, 1)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_killed_command_ends_as_one_that_nobody_touched(sr_data, tmp_path, monkeypatch, command, files):
    def enter(name):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        return command(sr_data)

    assert main(enter("straight")) == 0
    truth = results()
    assert len(truth) > 1
    arguments = enter("killed")
    assert killed_after(files, arguments)
    left = results()
    assert any(name.endswith(".tmp") for name in left)
    whole = {name: content for name, content in left.items() if not name.endswith(".tmp")}
    assert whole.items() <= truth.items(), "what is there is whole"
    assert main(arguments) == 0
    assert results() == truth
