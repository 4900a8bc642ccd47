"""Commands that are killed as they write: no file is half of one, and the same command ends as one that nobody touched.

What prepares data, and goes on where it was killed, has its own tests.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
import yaml

from semanir_plugin.cli import main
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import build_network
from tests.conftest import TINY_NETWORK

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


def killed_at(moment: int, arguments: list[str]) -> bool:
    """Run a command in a process that is killed before it gives a file its name for the so-many-th time."""
    pid = os.fork()
    if not pid:
        replace, left = Path.replace, iter(range(moment, -1, -1))

        def replaced(self: Path, target: Path) -> Path:
            if next(left, -1) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)

        Path.replace = replaced
        os._exit(main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def results(folder: Path = Path("results")) -> dict[str, bytes]:
    """Images, scores, and halves of any file, but for what was set aside."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".png", ".csv", ".tmp")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "_archived_" not in str(path)}


@pytest.mark.parametrize("command", [restore, score, compare], ids=lambda command: command.__name__)
@pytest.mark.parametrize("moments", [(0,), (1, 0)], ids=str)
def test_a_killed_command_ends_as_one_that_nobody_touched(sr_data, tmp_path, monkeypatch, command, moments):
    def enter(name):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        return command(sr_data)

    assert main(enter("straight")) == 0
    truth = results()
    assert len(truth) > 1
    arguments = enter("killed")
    for moment in moments:
        assert killed_at(moment, arguments)
        whole = {name: content for name, content in results().items() if not name.endswith(".tmp")}
        assert whole.items() <= truth.items(), "what is there is whole"
    assert main(arguments) == 0
    assert results() == truth
