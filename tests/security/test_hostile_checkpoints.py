"""Checkpoints that would run a command, at every way in."""

from __future__ import annotations

import json
import time
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch
import yaml

from semanir_plugin.archs import SemanIR
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference.construction_limits import no_larger_than
from semanir_plugin.inference.loading import build_network
from semanir_plugin.inference.safe_loading import load_checkpoint
from tests.conftest import ROOT, TINY_NETWORK, tiny_overrides
from tests.security.attacks import (
    Evaluated,
    Payload,
    as_legacy,
    as_pickle,
    as_tar,
    as_zip,
    assert_refused,
)

TRAIN = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
TEST = str(ROOT / "options" / "test_SemanIR_SRx4.yml")
NAME = "train_SemanIR_SRx4"
NETWORK = {"type": "SemanIR", "upscale": 4, "upsampler": "pixelshuffledirect", **TINY_NETWORK}


@pytest.fixture
def hostile(witness) -> Path:
    """A checkpoint like ours, one value of which would run a command."""
    path = Path("hostile.pth")
    path.write_bytes(as_zip({"params": {}, "network_g": NETWORK, "note": Payload(witness)}))
    return path


@pytest.fixture
def photo(photos) -> str:
    return str(photos["chelsea.png"])


@pytest.mark.parametrize("payload", [Payload, Evaluated])
@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle, as_tar])
def test_no_format_of_pickles_runs_anything(photo, witness, capsys, write, payload):
    path = Path("hostile.pth")
    path.write_bytes(write({"params": {}, "note": payload(witness)}))
    code = main(["restore", photo, "-o", "out.png", "--model", str(path)])
    assert_refused(capsys, code, "hostile.pth")
    assert not Path("out.png").exists()


def test_the_payload_is_one(witness):
    import pickle

    pickle.loads(as_pickle(Payload(witness)))
    assert witness.exists(), "else these tests test nothing"
    witness.unlink()


def train(data, *flags, **more):
    more = {"train__total_iter": 2, "val__val_freq": 2, "logger__save_checkpoint_freq": 1, **more}
    return main(["train", "-opt", TRAIN, *flags, "--force_yml", *tiny_overrides(data, **more)])


@pytest.mark.parametrize("option", ["pretrain_network_g", "resume_state"])
def test_training(sr_data, hostile, capsys, option):
    assert_refused(capsys, train(sr_data, **{f"path__{option}": hostile}), "hostile.pth", "would execute code")
    assert not Path("experiments").exists()


@pytest.mark.parametrize("part", ["training_states/7.state", "models/net_g_7.pth"])
def test_a_run_of_others_that_is_resumed(sr_data, hostile, capsys, part):
    run = Path("experiments", NAME)
    for name, content in (
        ("training_states/7.state", as_zip({"epoch": 0, "iter": 7, "optimizers": [], "schedulers": []})),
        ("models/net_g_7.pth", as_zip({"params": {}})),
    ):
        (run / name).parent.mkdir(parents=True)
        (run / name).write_bytes(hostile.read_bytes() if name == part else content)
    code = train(sr_data, "--auto_resume", train__total_iter=9)
    assert_refused(capsys, code)


def test_testing(sr_data, hostile, capsys):
    roots = {f"datasets:test_{i}:dataroot_gt": sr_data / "val" / "GT" for i in (1, 2, 3)}
    roots |= {f"datasets:test_{i}:dataroot_lq": sr_data / "val" / "LR_bicubic_X4" for i in (1, 2, 3)}
    entries = [f"{key}={value}" for key, value in {**roots, "path:pretrain_network_g": hostile, "num_gpu": 0}.items()]
    entries += [f"network_g:{key}={value}" for key, value in TINY_NETWORK.items()]
    assert_refused(capsys, main(["test", "-opt", TEST, "--force_yml", *entries]), "hostile.pth", "would execute code")
    assert not Path("results").exists()


def test_explaining(photo, hostile, capsys):
    code = main(["explain", photo, "--at", "3,5", "--model", str(hostile), "-o", "out.png"])
    assert_refused(capsys, code, "hostile.pth", "would execute code")
    assert not Path("out.png").exists()


def test_a_leaderboard_fails_that_row_and_goes_on(sr_data, hostile, capsys):
    models = {"hostile": {"network_g": NETWORK, "checkpoint": str(hostile)}, "bicubic": {"classical": "bicubic"}}
    board = {"name": "board", "task": "sr", "protocol": "sr_y_crop", "scale": 4, "num_gpu": 0, "models": models}
    board["test_sets"] = {"Set": {"gt": str(sr_data / "val" / "GT")}}
    Path("board.yml").write_text(yaml.safe_dump(board))
    assert main(["leaderboard", "-opt", "board.yml"]) in (0, 1)
    rows = {row["model"]: row for row in json.loads(Path("results/board/results.json").read_text())["rows"]}
    assert "would execute code" in rows["hostile"]["cells"]["Set"]["error"]
    assert rows["bicubic"]["cells"]["Set"]["error"] is None
    assert "Traceback" not in capsys.readouterr().err


def test_architectures_that_read_files_themselves(witness, capsys):
    Path("weights.pth").write_bytes(as_zip({"params": Payload(witness)}))
    Path("x.yml").write_text("network_g: {type: SpyNet, load_path: weights.pth}")
    assert_refused(capsys, main(["profile", "-opt", "x.yml", "-o", "out"]), "SpyNet refuses its options")


def test_metadata_of_safetensors_that_is_nested_too_deeply(photo, capsys):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, "deep.safetensors", {"network_g": "[" * 100_000})
    code = main(["restore", photo, "-o", "out.png", "--model", "deep.safetensors"])
    assert_refused(capsys, code, "deep.safetensors", "damaged")


def test_a_checkpoint_that_unpacks_to_more_than_it_is(photo, capsys):
    import zipfile

    source = torch.zeros(40 << 20)  # 160 MiB of zeros
    torch.save({"params": {"x": source}}, "stored.pth")
    with zipfile.ZipFile("stored.pth") as stored, zipfile.ZipFile("bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in stored.namelist():
            bomb.writestr(name, stored.read(name))
    assert Path("bomb.pth").stat().st_size < 1 << 20
    code = main(["restore", photo, "-o", "out.png", "--model", "bomb.pth"])
    assert_refused(capsys, code, "bomb.pth", "compressed")


def test_who_trusts_an_old_pickle_names_it_and_is_warned(witness, hostile, photo, capsys, monkeypatch):
    monkeypatch.setenv("SEMANIR_UNPICKLE", "other.pth")
    with pytest.raises(UserError, match=r"SEMANIR_UNPICKLE=hostile\.pth"):
        load_checkpoint(hostile)
    assert not witness.exists()
    monkeypatch.setenv("SEMANIR_UNPICKLE", "other.pth:hostile.pth")
    assert main(["restore", photo, "-o", "out.png", "--model", "hostile.pth"]) == 2, "it has no weights"
    assert "WARNING: hostile.pth: SEMANIR_UNPICKLE names it, so the code in it is executed" in capsys.readouterr().err
    assert witness.exists()
    witness.unlink()


def test_no_older_torch_is_installed_with_it():
    assert "torch>=2.6" in requires("semanir-plugin")


def test_weights_of_ours_still_load(sr_data):
    torch.manual_seed(0)
    net = SemanIR(**{key: value for key, value in NETWORK.items() if key != "type"})
    torch.save({"params": net.state_dict(), "network_g": NETWORK}, "ours.pth")
    folder = str(sr_data / "val" / "LR_bicubic_X4")
    assert main(["restore", folder, "-o", "out", "--model", "ours.pth"]) == 0
    assert len(list(Path("out").iterdir())) == 2


def test_an_empty_variable_trusts_nothing(monkeypatch):
    monkeypatch.setenv("SEMANIR_UNPICKLE", "")
    with pytest.raises(UserError, match="cannot be opened") as refused:
        load_checkpoint("")
    assert "executed" not in str(refused.value)


def doubled(kind=list, times=60):
    """2 ** times elements, of which each level holds the one below twice."""
    value = kind([1])
    for _ in range(times):
        value = kind([value, value])
    return value


def in_itself():
    value = []
    value.append(value)
    return value


UNMEASURED = {"shared": doubled(), "tuples": doubled(tuple), "cyclic": in_itself(), "integer": 10**100_000}


@pytest.mark.parametrize("write", [as_zip, as_legacy])
@pytest.mark.parametrize("key", ["format", "topk", "similarity", "depths", "note"])
@pytest.mark.parametrize("what", UNMEASURED)
def test_values_that_cannot_be_printed_are_refused_before_they_are_loaded(photo, what, key, write, capsys):
    value = UNMEASURED[what]
    about = {"format": value if key == "format" else 1, "version": "0"}
    network = {**NETWORK, key: value} if key in ("topk", "similarity", "depths") else NETWORK
    content = {"params": {}, "network_g": network, "semanir_plugin": about, "note": value if key == "note" else 0}
    Path("x.pth").write_bytes(write(content))
    code = main(["restore", photo, "-o", "out.png", "--model", "x.pth"])
    assert_refused(capsys, code, "x.pth: refused, since it describes")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**64, "a" * 100_000, b"x", torch.zeros(1), {1: 2}, [0] * 20_000, {7}, 1j]
)
@pytest.mark.parametrize("key", ["topk", "similarity"])
def test_options_that_are_not_plain(photo, key, value, capsys):
    Path("x.pth").write_bytes(as_zip({"params": {"x": torch.zeros(1)}, "network_g": {**NETWORK, key: value}}))
    code = main(["restore", photo, "-o", "out.png", "--model", "x.pth"])
    assert_refused(capsys, code, "x.pth: its network_g has", "save the options of the network, and plain ones")


@pytest.mark.parametrize("tail", [b"", as_zip({"params": {}})])
def test_an_old_file_with_a_new_one_behind_it_is_taken_for_what_torch_takes_it(photo, tail, capsys):
    Path("x.pth").write_bytes(as_legacy({"params": doubled()}) + tail)
    code = main(["restore", photo, "-o", "out.png", "--model", "x.pth"])
    assert_refused(capsys, code, "x.pth: refused, since it describes more than")


COMPACT = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}
SWINIR = {"type": "SwinIR", "embed_dim": 2, "depths": [1], "num_heads": [1]}


@pytest.mark.parametrize(
    "network",
    [
        pytest.param({**COMPACT, "num_feat": 100_000}, id="wide"),
        pytest.param({**COMPACT, "num_conv": 10**9}, id="deep"),
        pytest.param(
            {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 0, "num_block": 10**9}, id="empty"
        ),
        pytest.param({**SWINIR, "depths": [2], "img_size": 10**6}, id="masks"),
        pytest.param({**SWINIR, "window_size": 200, "img_size": 200}, id="pairs"),
        pytest.param({**NETWORK, "window_size": 20_000}, id="places"),
        pytest.param({**SWINIR, "depths": [10**9]}, id="rates"),
        pytest.param({"type": "AST", "depths": [1, 2**31, 1], "num_heads": [1, 1, 1]}, id="layers"),
        pytest.param({**NETWORK, "depths": [2**31] * len(NETWORK["num_heads"])}, id="shifts"),
        pytest.param({"type": "SemanIRUNet", "refinement_depth": 2**31}, id="refinement"),
        pytest.param({"type": "SemanIRUNet", "prompts": 2**31}, id="prompts"),
    ],
)
def test_a_network_much_larger_than_its_weights_is_not_built(photo, network, capsys):
    Path("x.pth").write_bytes(as_zip({"params": build_network(COMPACT, "").state_dict(), "network_g": network}))
    began = time.process_time()
    code = main(["restore", photo, "-o", "out.png", "--model", "x.pth"])
    assert time.process_time() - began < 10
    assert_refused(capsys, code, "x.pth: ", " refuses its options: ", "; correct its network_g")


def test_any_network_fits_its_own_weights():
    large = {"type": "SwinIR", "img_size": 256, "window_size": 16, "depths": [1], "num_heads": [6], "embed_dim": 180}
    with no_larger_than(build_network(large, "").state_dict()):
        build_network(large, "")
