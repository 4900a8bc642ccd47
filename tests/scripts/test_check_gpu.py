from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from argparse import Namespace

import pytest
import torch

from semanir_plugin.errors import UserError
from semanir_plugin.ops import build_key_semantics
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import check_gpu
from gpu_stages import correctness, pack, supervision, training
from gpu_stages import tests as gpu_tests
from gpu_stages.cases import LOST_DEVICE, Case, run_cases, warm_up
from gpu_stages.journal import Journal
from gpu_stages.supervision import Stage, run_stages

# Runs cases that end in every way there is, in the order in which they are given.
CASES = """
import os, sys, time
from pathlib import Path
from gpu_stages.cases import Case, run_cases
from gpu_stages.journal import Journal

def rows(then):
    yield {"number": 1}
    then()

def fail():
    raise ValueError("it is broken")

ways = {"good": int, "bad": fail, "crash": lambda: os._exit(9), "hang": lambda: time.sleep(60), "last": int}
cases = [Case(name, lambda then=then: rows(then), seconds=1 if name == "hang" else 60) for name, then in ways.items()]
if sys.argv[1] == "slow":
    cases = [Case("slow", lambda: rows(lambda: time.sleep(60)))]
if sys.argv[1] == "quick":
    cases = cases[:1]
if "--warm" in sys.argv:
    Path(sys.argv[3], f"warm {' '.join(sys.argv[5:])}").touch()
    time.sleep(60 if sys.argv[5] == "1" else 0)
    sys.exit()
run_cases(cases, Journal(Path(sys.argv[3]), sys.argv[1]))
"""


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Run stages of the cases above; return all rows."""
    script = tmp_path / "cases.py"
    script.write_text(CASES)
    monkeypatch.setattr(supervision, "COMMAND", (sys.executable, str(script)))
    monkeypatch.setattr(supervision, "STARTING", 0)

    def run(chosen, seconds):
        bad = run_stages(chosen, seconds, tmp_path, ())
        return bad, [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]

    return run


def test_what_fails_crashes_or_hangs_is_a_row_and_the_next_case_starts(stages):
    bad, rows = stages([Stage("all", 1)], 60)
    assert [row["case"] for row in rows if row.get("number") == 1] == ["good", "bad", "crash", "hang", "last"]
    errors = {row["case"]: row["error"] for row in rows if "error" in row}
    assert errors["bad"] == "it is broken"
    assert "exit code 9" in errors["crash"]
    assert "exit code 1" in errors["hang"]
    assert [row["case"] for row in rows if "seconds" in row] == ["good", "last"]
    assert (bad, rows[-1]["ended"], rows[-1]["faults"]) == (1, "complete", 3)


def test_a_stage_out_of_time_is_told_and_the_next_one_starts(stages):
    bad, rows = stages([Stage("slow", 1), Stage("quick", 1)], 8)
    ends = {row["stage"]: row["ended"] for row in rows if "ended" in row}
    assert ends == {"slow": "out of time in slow", "quick": "complete"}
    assert bad == 1


def test_idle_cores_compile_for_all_stages_beside_one_that_is_not_timed(stages, tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "WARMING", 3)
    start = time.monotonic()
    stages([Stage("quick", 1, timed=False), Stage("quick", 1, warm_ups=2)], 60)
    assert {path.name for path in tmp_path.glob("warm*")} == {"warm 0 2", "warm 1 2"}
    assert time.monotonic() - start < 20, "what takes too long is ended"


def test_a_share_of_what_compiles_is_run_and_its_errors_are_left_for_later(tmp_path):
    seen = []
    cases = [Case(str(each), lambda each=each: iter([seen.append(each)]), compiles=each != 2) for each in range(6)]
    cases.insert(0, Case("broken", lambda: [][0], compiles=True))
    warm_up(cases, 0, 2)
    assert seen == [1, 4]


def test_a_process_that_lost_its_gpu_ends_behind_the_case(tmp_path, capsys):
    def lose():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
        yield

    with pytest.raises(SystemExit) as ended:
        run_cases([Case("lost", lose), Case("next", lose)], Journal(tmp_path, "stage"))
    assert ended.value.code == LOST_DEVICE
    assert Journal(tmp_path, "stage").settled() == {"lost"}


def check(*words, **environment):
    command = [sys.executable, str(ROOT / "scripts" / "check_gpu.py"), *map(str, words)]
    environment = os.environ | {"SEMANIR_VENV": "0", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_the_dry_run_goes_through_all_stages_without_an_error(tmp_path):
    done = check("--dry-run", "--minutes", 5, OUT=str(tmp_path / "out"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + (tmp_path / "out" / "log.txt").read_text()
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [row["ended"] for row in rows if "ended" in row] == ["complete"] * len(check_gpu.DEFAULT)
    checked = {name for row in rows for name in row.get("errors", ())}
    assert checked >= {"out", "dq", "dk", "dv", "dbias", "dweights", "dqkv", "dscale"}
    timed = [row for row in rows if "both_ms" in row]
    assert {row["case"].split()[-1] for row in timed} >= {"dense", "triton", "sdpa", "mask"}
    assert all(row["both_ms"] > row["floor_ms"] > 0 for row in timed if row["case"].endswith("triton"))
    assert len([row for row in rows if "images_per_second" in row]) == 6
    assert any(row.get("psnr", 0) > 5 for row in rows)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.jsonl", "log.txt", "parts", "SemanIR_light_short_SRx4.safetensors")
    }


def test_results_that_are_wrong_do_not_pass():
    truth = {"out": torch.ones(4, dtype=torch.float64)}
    assert correctness._compare({"out": torch.ones(4)}, truth, 1e-4)["passed"]
    for wrong in (1.001, torch.nan):
        assert not correctness._compare({"out": torch.tensor([1, 1, 1, wrong])}, truth, 1e-4)["passed"]
    x = torch.randn(2, 16, 8).double()
    mask = build_key_semantics(x, 3, backend="naive").mask()
    assert correctness._judge(mask, x, 3)["passed"]
    swapped = mask.clone()
    worst = (x @ x.mT)[0, 0].argmin()
    swapped[0, 0, mask[0, 0].nonzero()[0]], swapped[0, 0, worst] = False, True
    assert not correctness._judge(swapped, x, 3)["passed"]
    assert not correctness._judge(mask & ~swapped, x, 3)["passed"]


def test_the_training_goes_on_from_parts_or_from_weights(tmp_path):
    assert training._words(Namespace(data=tmp_path, start=None)).count("--start") == 0
    assert training._words(Namespace(data=tmp_path, start=tmp_path))[-2:] == ["--start", str(tmp_path)]
    (tmp_path / "net.safetensors").touch()
    words = training._words(Namespace(data=tmp_path, start=tmp_path))
    assert words[-2:] == ["--weights", str(tmp_path / "net.safetensors")]
    with pytest.raises(UserError, match="give --data"):
        training._words(Namespace(data=None, start=None))


def test_tests_that_fail_are_rows(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_good(): pass\n\ndef test_bad(): assert 1 == 2\n")
    *wrong, counts = gpu_tests._test((str(tmp_path / "test_it.py"), f"--rootdir={tmp_path}"))
    assert [(row["test"].rpartition("::")[2], row["passed"]) for row in wrong] == [("test_bad", False)]
    assert counts == {"tests": 2, "failed": 1, "skipped": 0}


def main(monkeypatch, capsys, *words):
    monkeypatch.setenv("SEMANIR_VENV", "0")
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", *map(str, words)])
    code = check_gpu.main()
    return code, capsys.readouterr().err


def test_wrong_input_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, message = main(monkeypatch, capsys, "--output", tmp_path)
    assert (code, message.count("\n")) == (2, 1)
    assert "no CUDA device" in message
    (tmp_path / "results.jsonl").touch()
    code, message = main(monkeypatch, capsys, "--dry-run", "--output", tmp_path)
    assert (code, message.count("\n")) == (2, 1)
    assert "results of another run" in message
    code, message = main(monkeypatch, capsys, "--pack", tmp_path / "pack")
    assert (code, message.count("\n")) == (2, 1)
    assert "lies outside" in message
    with pytest.raises(SystemExit):
        main(monkeypatch, capsys, "--data", tmp_path / "nowhere")
    assert "nowhere" in capsys.readouterr().err.splitlines()[-1]


def test_a_pack_takes_as_many_photographs_as_may_travel(monkeypatch, tmp_path):
    (tmp_path / "photos").mkdir()
    for index in range(5):
        (tmp_path / "photos" / f"{index}.jpg").write_bytes(bytes(1000))
    monkeypatch.setattr(pack, "LIMIT", pack._tracked_bytes() + 3500)
    pack._copy_photographs(tmp_path / "photos", tmp_path / "pack")
    assert len(list((tmp_path / "pack" / "data" / "train" / "photos").iterdir())) == 3


def test_the_command_for_the_other_machine_names_what_was_packed(tmp_path):
    command = pack._command(pack.Path("pack"), tmp_path, None)
    assert command.startswith(
        "SEMANIR_VENV=0 PYTHONUNBUFFERED=1 PYTHONPATH=$PWD:$PWD/pack/site python3 scripts/check_gpu.py "
    )
    assert "--data pack/data" in command
    assert "--start" not in command
    assert len(command) < 2000
