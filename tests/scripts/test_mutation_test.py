from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path
from random import Random

import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import mutation_test
from mutations import containers, image_formats, samples
from mutations.commands import find_problem
from mutations.pickles import split
from mutations.pool import run_cases
from mutations.targets import TARGETS


@pytest.mark.slow
def test_a_hundredth_of_a_full_test_finds_nothing(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "mutation_test.py"), "--share", "0.01"]
    environment = os.environ | {"SEMANIR_VENV": "0", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(
        r"^(.+): ([\d,]+) cases, .*; 0 tracebacks, 0 hangs, 0 crashes, 0 other findings;", done.stdout, re.MULTILINE
    )
    assert dict(lines) == {
        "option files": "100",
        "images": "20",
        "checkpoints": "20",
        "training states": "10",
        "cache records": "20",
    }
    assert not list(tmp_path.glob("mutation_test_*")), "what was worked on is cleared away"


def hang(case):
    return (time.sleep(60) if case == 1 else None), False


def crash(case):
    return (os.kill(os.getpid(), signal.SIGKILL) if case == 1 else None), False


def fill_memory(case):
    return (str(len(bytes(10**12))) if case == 1 else None), False


def find(case):
    Path("found.txt").write_text("this")
    return ("traceback: of some kind" if case == 1 else None), case == 2


@pytest.mark.parametrize(
    ("attempt", "problem"),
    [(hang, "hang: more than 2 s"), (crash, "crash: .* exit code -9"), (find, "traceback: of some kind")],
)
def test_one_case_that_goes_wrong_is_told_and_the_others_are_tried(attempt, problem):
    reports = {report.case: report for report in run_cases(attempt, range(5), 2, seconds=2)}
    assert reports.keys() == set(range(5))
    assert re.search(problem, reports[1].problem)
    assert [case for case, report in reports.items() if report.problem] == [1]
    assert reports[1].folder.is_dir(), "its files stay"
    assert [case for case, report in reports.items() if report.refused] == ([2] if attempt is find else [])


def test_a_case_may_not_take_all_memory():
    (_, report, _) = sorted(run_cases(fill_memory, range(3), 1, seconds=30), key=lambda report: report.case)
    assert report.problem.startswith("crash")


@pytest.mark.parametrize(
    ("code", "text", "problem"),
    [
        (0, "2026-01-01 INFO: done\n", None),
        (2, "basicsr train: x.yml:1: wrong; mend it\n", None),
        (2, "Traceback (most recent call last):\nKeyError: 'x'\n", "traceback: KeyError: 'x'"),
        (1, "basicsr train: failed with KeyError: 'x'\n", "traceback: basicsr train: failed with KeyError: 'x'"),
        (139, "", "exit code 139"),
        (2, "", "exit code 2 with 0 lines"),
        (2, "basicsr train: wrong\n" * 12, "exit code 2 with 12 lines"),
        (0, "basicsr train: wrong\n", "exit code 0 with 1 lines"),
    ],
)
def test_what_no_command_may_do(code, text, problem):
    said = [line for line in text.splitlines() if line.startswith("basicsr")]
    assert find_problem(code, text, said) == problem


@pytest.mark.parametrize("name", TARGETS)
def test_a_case_is_the_same_again(name, tmp_path, monkeypatch):
    target = TARGETS[name](tmp_path / "target")

    def written(number):
        place = tmp_path / "place"
        place.mkdir()
        monkeypatch.chdir(place)
        next(iter(target.write(Random(number))))
        contents = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        place.rename(tmp_path / f"done{len(list(tmp_path.iterdir()))}")
        return contents

    assert written(1) == written(1)
    assert written(1) != written(2)


def test_checksums_and_lengths_of_changed_parts_are_right():
    png = next(samples.encoded_images())[1]
    zipped = samples.saved(next(samples.checkpoint_trees()))
    tensors = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    tensors = len(tensors).to_bytes(8, "little") + tensors + bytes(4)
    for seed in range(20):
        changed, where = image_formats.change_png(Random(seed), png), 8
        while where < len(changed):
            length = int.from_bytes(changed[where : where + 4], "big")
            body = changed[where + 4 : where + 8 + length]
            assert changed[where + 8 + length : where + 12 + length] == zlib.crc32(body).to_bytes(4, "big")
            where += 12 + length
        with zipfile.ZipFile(io.BytesIO(containers.change_zip(Random(seed), zipped))) as archive:
            assert archive.testzip() is None
        changed = containers.change_safetensors(Random(seed), tensors)
        assert changed[8 + int.from_bytes(changed[:8], "little") :] == bytes(4)


def test_many_changed_checkpoints_are_still_ones():
    zipped = samples.saved(next(samples.checkpoint_trees()))
    pickles = []
    for seed in range(40):
        with zipfile.ZipFile(io.BytesIO(containers.change_zip(Random(seed), zipped))) as archive:
            pickles += [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    assert sum(split(each) is not None and each.endswith(b".") for each in pickles) > 10


def test_a_finding_ends_with_exit_code_1(capsys, monkeypatch):
    def attempt(target, seed, case):
        return ("traceback: here" if case == 3 else None), False

    monkeypatch.setattr(mutation_test, "attempt", attempt)
    arguments = mutation_test.argparse.Namespace(seed=0, processes=1)
    assert mutation_test.test("things", None, range(5), arguments)
    said = capsys.readouterr().out
    assert "things 3: traceback: here; see " in said
    assert "things: 5 cases, 0 refused, 4 read; 1 tracebacks, 0 hangs, 0 crashes, 0 other findings" in said
