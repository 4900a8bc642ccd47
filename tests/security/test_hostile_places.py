"""Links that lead out of folders to write in, and names that would be markup in reports."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from semanir_plugin.archs import SemanIR
from semanir_plugin.cli import main
from semanir_plugin.inference.checkpoints import save_weights
from tests.conftest import ROOT, TINY_NETWORK, tiny_overrides
from tests.security.attacks import assert_refused

TRAIN = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
RUN = Path("experiments", "train_SemanIR_SRx4")
OUTSIDE = Path("../outside")
NETWORK = {"type": "SemanIR", "upscale": 4, "upsampler": "pixelshuffledirect", **TINY_NETWORK}


def write_image(path, height=12, width=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = SemanIR(**{key: value for key, value in NETWORK.items() if key != "type"})
    save_weights("model.safetensors", net, NETWORK)
    return "model.safetensors"


def restore(model, *flags):
    return main(["restore", "in", "-o", "out", "--model", model, "--recursive", *flags])


def test_restoring_into_a_linked_folder(model, capsys):
    write_image(Path("in/sub/a.png"))
    Path("out").mkdir()
    Path("out/sub").symlink_to(OUTSIDE.resolve())
    assert_refused(capsys, restore(model), "a link there leads out of out")


def test_restoring_replaces_a_link_not_what_it_names(model):
    write_image(Path("in/a.png"))
    Path("out").mkdir()
    Path("out/a.png").symlink_to((OUTSIDE / "precious.txt").resolve())
    assert restore(model, "--overwrite") == 0
    assert not Path("out/a.png").is_symlink()


def test_the_output_itself_may_be_a_link(model, world):
    write_image(Path("in/sub/a.png"))
    Path("elsewhere").mkdir()
    Path("out").symlink_to("elsewhere")
    assert restore(model) == 0
    assert Path("elsewhere/sub/a.png").is_file()


def train(data, *flags, **more):
    more = {"train__total_iter": 1, "val__val_freq": 1, "logger__save_checkpoint_freq": 1, **more}
    return main(["train", "-opt", TRAIN, *flags, "--force_yml", *tiny_overrides(data, **more)])


@pytest.mark.parametrize("name", ["models", "training_states", "visualization"])
def test_resuming_a_run_with_links(sr_data, capsys, name):
    assert train(sr_data) == 0
    capsys.readouterr()
    moved = (RUN / name).rename(f"moved_{name}")
    (RUN / name).symlink_to(moved.resolve())
    assert_refused(capsys, train(sr_data, "--auto_resume", train__total_iter=2), f"{name}: a link there leads out of")


def test_a_run_whose_copy_of_the_options_is_a_link(sr_data):
    assert train(sr_data) == 0
    copied = RUN / Path(TRAIN).name
    copied.unlink()
    copied.symlink_to((OUTSIDE / "precious.txt").resolve())
    assert train(sr_data, "--auto_resume", train__total_iter=2) == 0
    assert not copied.is_symlink()


SCRIPT = "<img src=x onerror=alert(1)>"


def leaderboard(data, image=None, model="bicubic", title="</title><script>alert(1)</script>"):
    gt = data / "val" / "GT"
    if image:
        gt = Path("GT")
        write_image(gt / f"{image}.png", 60, 84)
    board = {"name": "board", "title": title, "task": "sr", "protocol": "sr_y_crop", "scale": 4, "num_gpu": 0}
    board |= {"cost": None, "models": {model: {"classical": "bicubic"}}, "test_sets": {"Set<b>": {"gt": str(gt)}}}
    Path("board.yml").write_text(yaml.safe_dump(board))
    return main(["leaderboard", "-opt", "board.yml"])


@pytest.mark.parametrize("name", ["cache", "images", "leaderboard.log"])
def test_a_leaderboard_with_links(sr_data, capsys, name):
    folder = Path("results/board")
    folder.mkdir(parents=True)
    target = OUTSIDE / "precious.txt" if name.endswith("log") else OUTSIDE
    (folder / name).symlink_to(target.resolve())
    assert_refused(capsys, leaderboard(sr_data), f"{name}: a link there leads out of")


def test_lmdbs_do_not_take_the_place_of_links(capsys):
    write_image(Path("in/a.png"))
    Path("out.lmdb").symlink_to(OUTSIDE.resolve())
    assert_refused(capsys, main(["lmdb", "-i", "in", "-o", "out.lmdb", "--overwrite"]), "in the way")


def test_markup_in_names_is_text_in_reports(sr_data):
    assert leaderboard(sr_data, image=SCRIPT, model=f"M|{SCRIPT}") == 0
    folder = Path("results/board")
    page = (folder / "results.html").read_text()
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    data = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert SCRIPT in json.dumps(json.loads(data[1]))
    assert "default-src 'none'" in page
    assert not re.search(r"<(img|script|b)\b", (folder / "results.md").read_text())


def test_markup_in_what_failed(sr_data):
    assert leaderboard(sr_data, model=SCRIPT) == 0
    board = yaml.safe_load(Path("board.yml").read_text())
    board["models"] = {"there": {"classical": "bicubic"}, SCRIPT: {"images": SCRIPT}}
    Path("board.yml").write_text(yaml.safe_dump(board))
    assert main(["leaderboard", "-opt", "board.yml"]) == 1
    for name in ("results.html", "results.md"):
        assert "<img" not in Path("results/board", name).read_text()
