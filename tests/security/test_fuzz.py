"""Files made of random parts: never a traceback, never more than a line, never a hang.

SEMANIR_FUZZ=5000 runs so many examples of each test instead of a few.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import basicsr  # noqa: F401  # the host comes first
import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from semanir_plugin.basicsr_host.engine.run import read_run_options
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import build_network
from semanir_plugin.option_files import OptionFile, load_options
from semanir_plugin.schema.sections import OptionError
from tests.conftest import ROOT
from tests.security.attacks import png_bomb

EXAMPLES = int(os.environ.get("SEMANIR_FUZZ", 0))
SECONDS = 60  # of a processor, that one command may take
RECIPES = sorted((ROOT / "options").glob("*.yml"))
COMPACT = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}


def fuzzed(few: int):
    """Settings of a test: reproducible and few examples, or as many new ones as were asked for."""
    phases = [Phase.explicit, Phase.generate, Phase.shrink]
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def expire(*_):
        pytest.fail(f"took more than {SECONDS} s")

    previous = signal.signal(signal.SIGPROF, expire)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def run(*arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and the lines that it says, if it failed."""
    shown, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(told), time_limit():
        try:
            code = main(arguments)
        except SystemExit as end:  # of the arguments
            code = end.code
    lines = [line for line in told.getvalue().splitlines() if line and " INFO: " not in line and "Warning" not in line]
    said = [line for line in lines if line.startswith("basicsr")]
    assert code in (0, 1, 2), code
    assert "Traceback" not in told.getvalue(), told.getvalue()
    assert "failed with" not in told.getvalue(), told.getvalue()
    assert len(said) in (range(1, OptionError.MOST + 2) if code == 2 else (0,)), lines
    return code, "\n".join(said)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**63, -(2**64), 10**30, 0.5, -0.0, 1e-300, 1e300, float("inf"), float("nan")]),
    st.sampled_from(
        ["", " ", "~", "none", "auto", "train", "lmdb", "disk", "../x", "/dev/null", "{}", "{0}", "\0", "\ud800"]
    ),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
)
KEYS = st.one_of(
    st.sampled_from(["type", "name", "base", "sigma", "opt", "<<", "*", "test_1", "val", "train"]), st.text(max_size=6)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


def places(value: object, keys: tuple = ()) -> Iterator[tuple]:
    """Yield the place of everything in nested options."""
    if keys:
        yield keys
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places(child, (*keys, key))


@st.composite
def mutated_options(draw) -> tuple[str, dict]:
    """A shipped option file of which some parts are other ones, gone, of another place, or too many."""
    path = draw(st.sampled_from(RECIPES))
    options = draw(st.sampled_from([load_options(path).data, yaml.safe_load(path.read_text())]))
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(options))
        if not known:
            break
        *parents, last = draw(st.sampled_from(known))
        section = options
        for key in parents:
            section = section[key]
        change = draw(st.sampled_from(["replace", "remove", "move", "add", "rename"]))
        if change == "replace":
            section[last] = draw(VALUES)
        elif change == "move":
            source = options
            for key in draw(st.sampled_from(known)):
                source = source[key]
            section[last] = copy.deepcopy(source)
        elif change == "add" and isinstance(section, dict):
            section[draw(KEYS)] = draw(VALUES)
        else:
            value = section.pop(last)
            if change == "rename" and isinstance(section, dict):
                section[draw(KEYS)] = value
    return path.name.partition("_")[0], options


def write_options(options: dict) -> None:
    Path("x.yml").write_text(yaml.dump(options, allow_unicode=False, sort_keys=False), encoding="utf-8")


def clean() -> None:
    for name in ("experiments", "results", "tb_logger", "out"):
        shutil.rmtree(name, ignore_errors=True)


@fuzzed(25)
@given(mutated_options())
def test_option_files(case):
    command, options = case
    write_options(options)
    run(command, "-opt", "x.yml")
    clean()


OUT_OF_RANGE = st.sampled_from([float("inf"), float("-inf"), float("nan"), -1e300, -7, True])
FREE = {"res_scale"}  # any number will do


@st.composite
def out_of_range(draw) -> tuple[OptionFile, bool]:
    """A shipped option file with one number that no option has."""
    path = draw(st.sampled_from([path for path in RECIPES if path.stem.startswith(("train_", "test_"))]))
    is_train = path.stem.startswith("train_")
    file = read_run_options(path, is_train=is_train)
    data = copy.deepcopy(file.data)
    parts = {key: data[key] for key in data if is_train or key not in ("train", "logger", "dist_params")}
    numbers = [keys for keys in places(parts) if is_number(at(parts, keys)) and keys[-1] not in FREE]
    *parents, last = draw(st.sampled_from(numbers))
    at(data, parents)[last] = draw(OUT_OF_RANGE)
    return replace(file, data=data), is_train


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def at(value, keys):
    for key in keys:
        value = value[key]
    return value


@fuzzed(300)
@given(out_of_range())
def test_nothing_out_of_range_is_accepted(case):
    file, is_train = case
    with pytest.raises(UserError):
        validate_options(file, is_train=is_train)


NETWORK_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.floats(-1, 2),
    st.sampled_from(
        ["", "x", "key_semantic", "assa", "window", "mlp", "frfn", "leff", "cosine", "1conv", "~", float("nan")]
    ),
    st.lists(st.integers(-1, 8), max_size=3),
    st.lists(st.lists(st.integers(0, 3), max_size=2), max_size=2),
    st.dictionaries(st.sampled_from(["type", "where", "dim"]), st.integers(0, 3), max_size=2),
)


@st.composite
def mutated_trainings(draw, data: dict[str, object]):
    """A training of seconds with some values that are others; what would take gigabytes is not among them."""
    options = copy.deepcopy(data)
    known = [keys for keys in places(options) if keys[-1] != "dataroot_gt"]
    for _ in range(draw(st.integers(1, 2))):
        *parents, last = draw(st.sampled_from(known))
        try:
            section = at(options, parents)
        except (KeyError, IndexError, TypeError):  # the change before this one took it away
            continue
        if isinstance(section, dict) or (isinstance(section, list) and isinstance(last, int) and last < len(section)):
            section[last] = draw(NETWORK_VALUES)
    return options


def tiny_training(data: Path) -> dict:
    pair = {"type": "PairedImageDataset", "dataroot_gt": f"{data}/val/GT", "dataroot_lq": f"{data}/val/LR_bicubic_X4"}
    patches = {"gt_size": 32, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    network = {"type": "SemanIR", "upscale": 4, "embed_dim": 4, "depths": [1], "num_heads": [2], "window_size": 8}
    return {
        **{"name": "fuzz", "model_type": "SemanIRModel", "scale": 4, "num_gpu": 0, "manual_seed": 0},
        "datasets": {"train": {"name": "t", **pair, **patches}, "val": {"name": "v", **pair}},
        "network_g": {**network, "topk": 12, "upsampler": "pixelshuffledirect"},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5},
            "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "mean"},
            **{"total_iter": 1, "warmup_iter": -1, "ema_decay": 0.9, "grad_clip": 1.0, "accumulation_steps": 1},
        },
        "val": {"val_freq": 1, "save_img": False, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 4}}},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 1, "use_tb_logger": False},
    }


@fuzzed(12)
@given(st.data())
def test_whole_trainings(sr_data, data):
    write_options(data.draw(mutated_trainings(tiny_training(sr_data))))
    run("train", "-opt", "x.yml")
    clean()


TEXTS = st.text(alphabet=st.sampled_from(" :=[]{},&*!|>'\"%@`#-?<~.0159aefgnortu\n\t\0é"), max_size=20) | st.text(
    max_size=12
)


@fuzzed(40)
@given(st.lists(TEXTS | st.builds("{}:{}={}".format, KEYS, KEYS, TEXTS), min_size=1, max_size=3))
def test_overrides(entries):
    entries = [entry if not entry.startswith("-") else f" {entry}" for entry in entries]
    run("train", "-opt", str(ROOT / "options" / "train_SemanIR_SRx4.yml"), "--force_yml", *entries)
    clean()


@fuzzed(60)
@given(st.binary(max_size=60) | TEXTS.map(lambda text: text.encode(errors="surrogatepass")))
def test_files_that_may_be_options(content):
    Path("x.yml").write_bytes(content)
    for command in ("train", "leaderboard", "profile"):
        run(command, "-opt", "x.yml", *(["-o", "out"] if command == "profile" else []))
    clean()


LINES = st.one_of(
    st.from_regex(r"[a-z./\\\0]{0,5}\.?[a-z]{0,3} ?\(\d{1,6},\d{1,6},\d\) \d", fullmatch=True),
    st.text(max_size=20),
    st.sampled_from(["val0.png (60,84,3) 1", "val1.png (60,84,3)", "../GT/val0.png", "", "val0.png (0,0,3) 1"]),
)
BYTES = st.lists(LINES, max_size=4).map(lambda lines: "\n".join(lines).encode(errors="surrogatepass")) | st.binary(
    max_size=40
)


@fuzzed(15)
@given(BYTES, BYTES, st.booleans())
def test_lists_of_images(sr_data, gt, lq, in_lmdb):
    options = tiny_training(sr_data)
    if in_lmdb:
        for name, lines, source in (("gt.lmdb", gt, "GT.lmdb"), ("lq.lmdb", lq, "LR_bicubic_X4.lmdb")):
            shutil.copytree(sr_data / "train" / source, name, dirs_exist_ok=True)
            Path(name, "meta_info.txt").write_bytes(lines)
        more = {"io_backend": {"type": "lmdb"}, "dataroot_gt": "gt.lmdb", "dataroot_lq": "lq.lmdb"}
    else:
        Path("list.txt").write_bytes(gt)
        more = {"meta_info_file": "list.txt"}
    options["datasets"]["train"].update(more)
    write_options(options)
    run("train", "-opt", "x.yml")
    clean()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


SEEDS = [
    *(cv2.imencode(suffix, noise(9, 13))[1].tobytes() for suffix in (".png", ".jpg", ".webp", ".bmp", ".tiff")),
    cv2.imencode(".png", noise(9, 13).astype(np.uint16) * 257)[1].tobytes(),
    cv2.imencode(".png", noise(9, 13)[..., 0])[1].tobytes(),
    png_bomb(),
]


@st.composite
def mutated_bytes(draw, seeds: list[bytes]) -> bytes:
    """A file with some bytes changed, cut out, doubled, or cut off."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        # Headers, where most is decided, are hit as often as all the rest.
        at = at % 64 if draw(st.booleans()) else at
        change = draw(st.sampled_from(["set", "cut", "double", "end", "insert"]))
        if change == "set" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif change == "cut":
            del content[at : at + draw(st.integers(1, 16))]
        elif change == "double":
            content[at:at] = content[at : at + 16]
        elif change == "end":
            del content[max(at, 1) :]
        else:
            content[at:at] = draw(st.binary(max_size=4))
    return bytes(content)


@pytest.fixture
def model() -> str:
    torch.manual_seed(0)
    save_weights("model.safetensors", build_network(COMPACT, ""), COMPACT)
    return "model.safetensors"


@fuzzed(60)
@given(content=mutated_bytes(SEEDS), suffix=st.sampled_from([".png", ".jpg", ".webp", ".bmp", ".tif"]))
def test_images(model, content, suffix):
    for folder in ("in", "out", "db.lmdb"):
        shutil.rmtree(folder, ignore_errors=True)
    Path("in").mkdir()
    Path("in", f"image{suffix}").write_bytes(content)
    code, _ = run("restore", "in", "-o", "out", "--model", model)
    assert code in (0, 1)
    assert Path("out", f"image{suffix}").exists() == (code == 0)
    run("explain", f"in/image{suffix}", "--at", "0,0", "-o", "out.png", "--model", model)
    run("lmdb", "-i", "in", "-o", "db.lmdb", "--workers", "1")
    board = {
        "name": "board",
        "task": "denoising",
        "protocol": "denoising_color_bgr",
        "cost": None,
        "save_images": False,
    }
    board |= {"models": {"identity": {"classical": "identity"}}, "test_sets": {"S": {"gt": "in", "sigma": 15}}}
    write_options(board)
    run("leaderboard", "-opt", "x.yml")
    clean()


def checkpoints() -> list[bytes]:
    net = build_network(COMPACT, "")
    seeds = []
    for legacy in (False, True):
        file = io.BytesIO()
        content = {"params": net.state_dict(), "network_g": COMPACT, "semanir_plugin": {"format": 1, "version": "0"}}
        torch.save(content, file, _use_new_zipfile_serialization=not legacy)
        seeds.append(file.getvalue())
    return seeds


@fuzzed(60)
@given(mutated_bytes(checkpoints()))
def test_checkpoints(photos, content):
    Path("x.pth").write_bytes(content)
    run("restore", str(photos["chelsea.png"]), "-o", "out/x.png", "--model", "x.pth", "--tile", "128")
    clean()


@fuzzed(40)
@given(st.data())
def test_safetensors(model, photos, data):
    content = data.draw(mutated_bytes([Path(model).read_bytes()]))
    Path("x.safetensors").write_bytes(content)
    run("explain", str(photos["chelsea.png"]), "--at", "3,4", "-o", "x.png", "--model", "x.safetensors")


LOG = """\
2026-01-01 00:00:00,000 INFO: Training on 5 images, batches of 2 x 1 processes, iterations 1 to 4.
  total_iter: 4
  val_freq: 2
2026-01-01 00:00:01,000 INFO: [train..][epoch:  0, iter:       2, lr:(2.000e-04,)] l_pix: 1.0e-01
2026-01-01 00:00:01,000 INFO: Validation Set5
\t # psnr: 20.1234\tBest: 20.1234 @ 2 iter
"""


NUMBERS = ["0", "-1", "9" * 5000, "1e400", "nan", "inf", ",", "\n", "\0", "\u00b2", "\u0661"]


@st.composite
def mutated_text(draw, text: str) -> str:
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 6))
        other = draw(st.sampled_from(NUMBERS) | st.text(max_size=4))
        text = text[:at] + other + text[at + length :]
    return text


@fuzzed(12)
@given(mutated_text(LOG))
def test_logs(text):
    Path("train_x.log").write_text(text, encoding="utf-8", errors="surrogatepass")
    code, _ = run("curves", "train_x.log", "-o", "x.png")
    assert code in (0, 2)
