"""Names that are too long for a file system, wherever a command is given one: told in one line, before any work."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference import restore_job
from semanir_plugin.path_safety import check_fits, check_folder
from tests.conftest import ROOT, tiny_overrides
from tests.security.attacks import assert_refused

LONG = "n" * 300
LONGER = "m" * 5000
NAME = "n" * 246  # of an image that is there, with .png 250 bytes
TEST, TRAIN = "test_Bicubic_demo_SRx4.yml", str(ROOT / "options" / "train_SemanIR_SRx4.yml")
PAIRS = "{test_1: {name: A, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: in, io_backend: {type: disk}}}"
MODEL = ["--model", "semanir-mini-x2"]


@pytest.fixture(autouse=True)
def _images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, side in (("gt", 64), ("in", 16)):
        Path(folder).mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        cv2.imwrite(f"{folder}/{NAME}.png", noise)


COMMANDS = [
    ["restore", f"in/{NAME}.png", *MODEL, "-o", f"{LONG}.png"],
    ["restore", f"in/{NAME}.png", *MODEL, "-o", LONG],
    ["restore", f"in/{NAME}.png", *MODEL, "-o", f"out/{LONG}/y.png"],
    ["restore", "in", *MODEL, "-o", "out", "--suffix", "_restored"],
    ["restore", "in", *MODEL, "-o", "out", "--suffix", LONG],
    ["restore", LONG, *MODEL, "-o", "out"],
    ["restore", "in", "-o", "out", "--model", LONG],
    ["restore", "in", "-o", "out", "--model", LONGER],
    ["restore", "in", "-o", "out", "--model", f"{LONG}.pth"],
    ["restore", "in", "-o", "out", *MODEL, "-opt", f"{LONG}.yml"],
    ["restore", "in", "-o", "out", *MODEL, "--device", LONGER],
    ["train", "-opt", f"{LONG}.yml"],
    ["train", "-opt", LONGER],
    ["test", "-opt", f"{LONG}.yml"],
    ["test", "-opt", TEST, "--force_yml", "num_gpu=0", f"datasets={PAIRS}", f"path:results_root={LONG}"],
    ["test", "-opt", TEST, "--force_yml", "num_gpu=0", f"datasets={PAIRS}", f"val:suffix={LONG}"],
    ["test", "-opt", TEST, "--force_yml", "num_gpu=0", f"datasets={PAIRS}", "val:save_img=true"],
    ["test", "-opt", TEST, "--force_yml", "num_gpu=0", f"datasets={PAIRS}", f"name={LONG}"],
    ["test", "-opt", TEST, "--force_yml", "num_gpu=0", f"datasets={PAIRS.replace('name: A', f'name: {LONG}')}"],
    ["test", "-opt", TEST, "--force_yml", "num_gpu=0", f"datasets={PAIRS.replace(': gt', f': {LONG}')}"],
    ["leaderboard", "-opt", f"{LONG}.yml"],
    ["options", "copy", f"{LONG}.yml"],
    ["options", "show", f"{LONG}.yml"],
    ["options", "copy", TEST, LONG],
    ["lmdb", "-i", "in", "-o", f"{LONG}.lmdb"],
    ["lmdb", "-i", "in", "-o", "x.lmdb"],
    ["lmdb", "-i", LONG, "-o", "x.lmdb"],
    ["prepare", "sub-images", "gt", LONG, "--crop", "32"],
    ["prepare", "sr", "gt", LONG],
    ["prepare", "rain", "gt", LONG],
    ["curves", LONG, "-o", "x.png"],
    ["curves", "in", "-o", f"{LONG}.png"],
    ["explain", f"in/{NAME}.png", "--at", "3,5", *MODEL, "-o", f"{LONG}.png"],
    ["explain", f"{LONG}.png", "--at", "3,5", *MODEL, "-o", "x.png"],
    ["profile", "-opt", TEST, "-o", LONG],
    ["profile", "-opt", f"{LONG}.yml", "-o", "out"],
    ["benchmark", TEST, "-o", LONG],
    ["benchmark", f"{LONG}.yml"],
    ["list", "--modules", "-opt", f"{LONG}.yml"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[:40])
def test_one_line_before_any_work(command, capsys, monkeypatch):
    monkeypatch.setattr(restore_job, "_write", lambda *_: pytest.fail("it is restored"))
    code = main(command)
    assert_refused(capsys, code)
    assert sorted(path.name for path in Path().iterdir() if path.name not in (".locks", "results")) == ["gt", "in"]


@pytest.mark.parametrize(
    "key", ["name", "path:experiments_root", "path:pretrain_network_g", "path:resume_state", "datasets:val:name"]
)
def test_of_a_training(sr_data, key, capsys):
    code = main(["train", "-opt", TRAIN, "--force_yml", *tiny_overrides(sr_data), f"{key}={LONG}"])
    assert_refused(capsys, code)


@pytest.mark.parametrize("part", ["models", "test_sets"])
def test_rows_and_test_sets_of_a_leaderboard_may_be_called_anything(part):
    board = {"name": "board", "task": "sr", "protocol": "sr_y_crop", "scale": 4, "num_gpu": 0, "save_images": True}
    named = {"models": {"bicubic": {"classical": "bicubic"}}, "test_sets": {"Set": {"gt": "gt"}}}
    named[part] = {LONG: next(iter(named[part].values()))}
    Path("board.yml").write_text(yaml.safe_dump({**board, **named}))
    assert main(["leaderboard", "-opt", "board.yml"]) == 0


def test_a_name_that_fits_is_restored():
    assert main(["restore", "in", "-o", "out", *MODEL, "--suffix", "_x2"]) == 0
    assert [path.name for path in Path("out").iterdir()] == [f"{NAME}_x2.png"]


def test_what_fits():
    for path in ("a" * 255, "in/" + "a" * 255, "new/folder/" + "\u00e4" * 127):
        check_fits(Path(path))
    for path in ("a" * 256, "in/" + "a" * 256, "new/folder/" + "\u00e4" * 128, "new/" + "a" * 256 + "/x", "a/" * 2500):
        with pytest.raises(UserError, match="File name too long; choose a shorter name"):
            check_fits(Path(path))


def test_a_folder_that_cannot_be_written_to(monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="out: cannot write there: Permission denied; choose another folder"):
        check_folder(Path("out"))
