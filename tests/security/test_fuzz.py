"""Command lines, lists and logs made of random parts: never a traceback, never more than a line, never a hang.

What is made of whole files by changing a part of them, `scripts/mutation_test.py` tries.

SEMANIR_FUZZ=5000 runs so many examples of each test instead of a few.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import basicsr  # noqa: F401  # the host comes first
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from semanir_plugin.basicsr_host.engine.run import read_run_options
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import OptionFile
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
from mutations.commands import run_command
from mutations.samples import tiny_training
from mutations.trees import at, places

EXAMPLES = int(os.environ.get("SEMANIR_FUZZ", 0))
SECONDS = 60  # of a processor, that one command may take
RECIPES = sorted((ROOT / "options").glob("*.yml"))


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


def run(*arguments: str) -> int:
    """Run a command, which may refuse in a line; return its exit code."""
    with time_limit():
        outcome = run_command(arguments)
    assert outcome.problem is None, outcome.text
    return outcome.code


KEYS = st.one_of(
    st.sampled_from(["type", "name", "base", "sigma", "opt", "<<", "*", "test_1", "val", "train"]), st.text(max_size=6)
)


def write_options(options: dict) -> None:
    Path("x.yml").write_text(yaml.dump(options, allow_unicode=False, sort_keys=False), encoding="utf-8")


def clean() -> None:
    for name in ("experiments", "results", "tb_logger", "out"):
        shutil.rmtree(name, ignore_errors=True)


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


@fuzzed(100)
@given(out_of_range())
def test_nothing_out_of_range_is_accepted(case):
    file, is_train = case
    with pytest.raises(UserError):
        validate_options(file, is_train=is_train)


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
    options = tiny_training(sr_data / "val")
    for each in options["datasets"].values():
        each["dataroot_lq"] = f"{sr_data}/val/LR_bicubic_X4"
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
    code = run("curves", "train_x.log", "-o", "x.png")
    assert code in (0, 2)
