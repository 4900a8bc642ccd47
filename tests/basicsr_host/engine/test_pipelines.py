"""The pipelines through the command's own entry, on small crops of photographs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from semanir_plugin.cli import main
from semanir_plugin.option_files import load_options
from tests.conftest import ROOT, tiny_overrides

TRAIN = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
TEST = str(ROOT / "options" / "test_SemanIR_SRx4.yml")
NAME = "train_SemanIR_SRx4"


def train(data, *flags, opt=TRAIN, **more):
    more = {"train__total_iter": 4, "val__val_freq": 2, "logger__save_checkpoint_freq": 2, **more}
    return main(["train", "-opt", opt, *flags, "--force_yml", *tiny_overrides(data, **more)])


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def weights(iteration, folder=Path("experiments") / NAME):
    saved = torch.load(folder / "models" / f"net_g_{iteration}.pth", weights_only=True)
    return {key: value for key, value in saved.items() if key.startswith("params")}


def read_logs():
    return "".join(path.read_text() for path in sorted(Path("experiments", NAME).glob("*.log")))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k][name], b[k][name]) for k in a for name in a[k])


def test_training_writes_what_basicsr_users_expect(sr_data):
    assert train(sr_data, logger__use_tb_logger="true", logger__print_freq=1) == 0
    run = Path("experiments", NAME)
    for name in ("net_g_2", "net_g_4", "net_g_latest", "net_g_best"):
        assert (run / "models" / f"{name}.pth").is_file()
    assert {path.name for path in (run / "training_states").iterdir()} == {"2.state", "4.state"}
    assert (run / "train_SemanIR_SRx4.yml").is_file()
    assert list(Path("tb_logger", NAME).glob("events*"))
    log = read_logs()
    assert "PyTorch" in log
    assert "eta: 0:00:00" in log
    assert "eta: -" not in log
    assert log.count("l_pix") == 4
    assert log.count("Validation Set5") == 2, "after 2 and 4, and not once more at the end"


@pytest.mark.parametrize("batch", [2, 9], ids=["drops a last batch", "batch larger than the data"])
def test_exactly_the_iterations_asked_for(sr_data, batch):
    more = {"datasets__train__batch_size_per_gpu": batch, "train__total_iter": 7, "logger__print_freq": 1}
    assert train(sr_data, logger__save_checkpoint_freq=7, val__val_freq=100, **more) == 0
    assert read_logs().count("l_pix") == 7
    assert Path("experiments", NAME, "training_states", "7.state").is_file()


def test_a_resumed_run_ends_as_an_uninterrupted_one(sr_data, tmp_path):
    assert train(sr_data, train__total_iter=6, path__experiments_root=tmp_path / "straight") == 0
    assert train(sr_data, train__total_iter=2) == 0
    assert train(sr_data, "--auto_resume", train__total_iter=6) == 0
    assert same(weights("latest"), weights("latest", tmp_path / "straight" / NAME))
    assert "Resuming from" in read_logs()


def test_resuming_a_finished_run_changes_nothing(sr_data):
    assert train(sr_data) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("experiments").rglob("*")}
    assert train(sr_data, "--auto_resume") == 0
    assert {path: path.stat().st_mtime_ns for path in Path("experiments").rglob("*")} == before


def test_a_killed_run_continues_where_it_was(sr_data, tmp_path):
    overrides = tiny_overrides(sr_data, train__total_iter=100_000, logger__save_checkpoint_freq=1, val__val_freq=10**6)
    command = [sys.executable, "-m", "semanir_plugin.cli", "train", "-opt", TRAIN, "--auto_resume", "--force_yml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    states = tmp_path / "experiments" / NAME / "training_states"
    for wanted in (3, 6):
        process = subprocess.Popen([*command, *overrides], env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not (states / f"{wanted}.state").is_file():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = max(int(path.stem) for path in states.glob("*.state"))
    assert not list(Path("experiments").glob("*_archived_*"))
    assert train(sr_data, "--auto_resume", train__total_iter=last + 1, logger__save_checkpoint_freq=1) == 0
    assert f"iteration {last:,}." in read_logs()


def test_an_earlier_run_is_kept_aside(sr_data):
    assert train(sr_data) == 0
    assert train(sr_data) == 0
    assert len(list(Path("experiments").glob(f"{NAME}_archived_*"))) == 1


def test_debug_shortens_the_intervals(sr_data):
    assert train(sr_data, "--debug", train__total_iter=8) == 0
    assert Path("experiments", f"debug_{NAME}", "training_states", "8.state").is_file()


def test_testing_scores_and_saves_images(sr_data):
    assert train(sr_data) == 0
    before = sorted(Path("experiments").rglob("*"))
    overrides = [
        *(e for e in tiny_overrides(sr_data) if e.startswith(("network_g", "num_gpu"))),
        *(
            f"datasets:test_{i}:dataroot_{side}={sr_data / 'val' / folder}"
            for i in (1, 2, 3)
            for side, folder in (("gt", "GT"), ("lq", "LR_bicubic_X4"))
        ),
    ]
    assert main(["test", "-opt", TEST, "--force_yml", *overrides]) == 0
    results = Path("results", "test_SemanIR_SRx4")
    scores = json.loads((results / "metrics.json").read_text())
    assert list(scores) == ["Set5", "Set14", "BSD100"]
    assert scores["Set5"]["psnr"] > 5
    image = cv2.imread(str(next((results / "visualization" / "Set5").iterdir())))
    assert image.shape == (60, 84, 3)
    assert sorted(Path("experiments").rglob("*")) == before


@pytest.mark.parametrize(("name", "psnr"), [("Set5", 28.43), ("Set14", 26.09)])
def test_bicubic_has_the_published_figures(benchmark_data, name, psnr):
    from semanir_plugin.basicsr_host.data.pairing import find_images
    from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

    write_sr_pairs(find_images(benchmark_data / "test" / name), f"datasets/{name}", 4)
    options = load_options("test_Bicubic_SRx4.yml").data
    options["datasets"] = {key: each for key, each in options["datasets"].items() if each["name"] == name}
    Path("bicubic.yml").write_text(yaml.safe_dump(options))
    assert main(["test", "-opt", "bicubic.yml", "--force_yml", "val:save_img=false"]) == 0
    scores = json.loads(Path("results", "test_Bicubic_SRx4", "metrics.json").read_text())
    assert scores[name]["psnr"] == pytest.approx(psnr, abs=0.02)


def wrong_input(capsys, code, *words):
    """Assert exit code 2, one line with these words, and nothing written."""
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if " INFO: " not in line and not line.startswith("\t")]
    assert code == 2
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    assert all(word in lines[0] for word in words), lines[0]
    assert not Path("experiments").exists()
    assert not Path("tb_logger").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"network_g__embed_dims": 8}, ["embed_dims", "did you mean 'embed_dim'"]),
        ({"train__pixel_opt__type": "L1Los"}, ["L1Los", "L1Loss"]),
        ({"network_g__upscale": 3}, ["upscale 3", "scale 4"]),
        ({"scale": 3, "network_g__upscale": 3, "datasets__train__gt_size": 48}, ["dataroot_lq", "not a factor of 3"]),
        ({"datasets__train__dataroot_gt": "no/such/GT.lmdb"}, ["datasets:train:dataroot_gt", "no/such/GT.lmdb"]),
        ({"network_g__num_heads": "[3,3]"}, ["not a multiple of the 3 heads"]),
        ({"train__optim_g__type": "Adan"}, ["Adan", "Adam"]),
        ({"train__amp": "fp16"}, ["fp16", "CUDA"]),
        ({"path__pretrain_network_g": "gone.pth"}, ["gone.pth"]),
        ({"path__resume_state": "gone.state"}, ["gone.state"]),
        ({"network_g__in_chans": 1}, ["network_g", "3 x "]),
        ({"val__metrics": "{mine: {type: calculate_psnr, crop_border: a}}"}, ["val:metrics:mine: crop_border"]),
        ({"train__pixel_opt__loss_weight": "abc"}, ["train:pixel_opt: loss_weight"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options_are_one_line_and_exit_code_2(sr_data, capsys, override, words):
    wrong_input(capsys, train(sr_data, **override), *words)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("{type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 2}", ["upscale 2", "scale 4"]),
        ("{type: RRDBNet, num_in_ch: 3, num_out_ch: 3, scale: 2, num_feat: 8, num_block: 1}", ["network_g", "scale 4"]),
    ],
)
def test_a_network_of_another_scale(sr_data, capsys, network, words):
    entries = [entry for entry in tiny_overrides(sr_data) if not entry.startswith("network_g")]
    wrong_input(capsys, main(["train", "-opt", recipe_with(network), "--force_yml", *entries]), *words)


def recipe_with(network):
    """The x4 recipe with another network."""
    options = yaml.safe_load(Path(TRAIN).read_text())
    options["network_g"] = yaml.safe_load(network)
    Path("other.yml").write_text(yaml.safe_dump(options))
    return "other.yml"


@pytest.mark.parametrize(
    ("model", "network"),
    [
        ("SRModel", "{type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 4}"),
        (
            "SwinIRModel",
            "{type: SwinIR, upscale: 4, img_size: 8, window_size: 8, embed_dim: 8, depths: [1], num_heads: [1],"
            " mlp_ratio: 2, upsampler: pixelshuffledirect}",
        ),
    ],
)
def test_stock_models_train_too(sr_data, model, network):
    entries = [e for e in tiny_overrides(sr_data) if not e.startswith(("network_g", "train:amp"))]
    options = yaml.safe_load(Path(recipe_with(network)).read_text())
    options["dist_params"] = {"backend": "nccl", "port": 29500}  # as stock recipes have it
    options["val"]["metrics"] = {"psnr": {"type": "calculate_psnr", "crop_border": 4}}
    for key in ("amp", "grad_clip", "accumulation_steps"):
        del options["train"][key]
    Path("other.yml").write_text(yaml.safe_dump({**options, "model_type": model}))
    entries += ["train:total_iter=2", "val:val_freq=2", "logger:save_checkpoint_freq=2"]
    assert main(["train", "-opt", "other.yml", "--force_yml", *entries]) == 0
    assert set(weights(2)) == {"params", "params_ema"}


@pytest.mark.parametrize(
    "change",
    [
        {"train__optim_g": "{type: SGD, lr: 0.1, momentum: 0.9}"},
        {"network_g__depths": "[1]", "network_g__num_heads": "[2]"},
    ],
    ids=["optimiser", "network"],
)
def test_a_state_of_something_else(sr_data, capsys, change):
    assert train(sr_data) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("experiments").rglob("*")}
    assert train(sr_data, "--auto_resume", train__total_iter=9, **change) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("basicsr train: ")
    assert {path: path.stat().st_mtime_ns for path in Path("experiments").rglob("*")} == before


def test_a_folder_that_cannot_be_made(sr_data, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code = train(sr_data, path__experiments_root=tmp_path / "file")
    wrong_input(capsys, code, str(tmp_path / "file"), "path.experiments_root")


def test_a_scale_no_network_has(sr_data, capsys):
    code = train(sr_data, scale=6, network_g__upscale=6, datasets__train__gt_size=48)
    wrong_input(capsys, code, "scale")


def test_a_truncated_png_is_named(sr_data, capsys, tmp_path):
    folder = tmp_path / "GT"
    folder.mkdir()
    for path in (sr_data / "val" / "GT").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damaged = sorted(folder.iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    wrong_input(capsys, train(sr_data, datasets__val__dataroot_gt=folder), damaged.name, "truncated PNG")


def test_an_lmdb_without_meta_info(sr_data, capsys, tmp_path):
    copied = tmp_path / "GT.lmdb"
    copied.mkdir()
    (copied / "data.mdb").write_bytes((sr_data / "train" / "GT.lmdb" / "data.mdb").read_bytes())
    wrong_input(capsys, train(sr_data, datasets__train__dataroot_gt=copied), str(copied), "meta_info.txt")


def test_a_checkpoint_of_another_architecture(sr_data, capsys, tmp_path):
    path = tmp_path / "edsr.pth"
    torch.save({"params": {"conv_first.weight": torch.zeros(64, 3, 3, 3), "body.0.conv1.weight": torch.zeros(1)}}, path)
    code = train(sr_data, path__pretrain_network_g=path)
    wrong_input(capsys, code, "edsr.pth", "SemanIR", "body.0.conv1.weight", "conv_first.weight", "missing")


def test_an_unreadable_image_during_training_is_named(sr_data, capsys, tmp_path):
    folder = tmp_path / "train"
    for side in ("GT", "LR_bicubic_X4"):
        (folder / side).mkdir(parents=True)
        scale = 1 if side == "GT" else 4
        noise = np.random.default_rng(0).integers(0, 255, (64 // scale, 64 // scale, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / side / "a.png"), noise)
    path = folder / "LR_bicubic_X4" / "a.png"
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)  # header and end are whole, the pixels are not
    path.write_bytes(data)
    roots = {
        f"datasets__train__dataroot_{key}": folder / side for key, side in (("gt", "GT"), ("lq", path.parent.name))
    }
    code = train(sr_data, **roots, datasets__train__io_backend__type="disk", datasets__train__num_worker_per_gpu=1)
    assert code == 2
    assert str(path) in capsys.readouterr().err.splitlines()[-1]
