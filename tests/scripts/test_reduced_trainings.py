from __future__ import annotations

import sys
from types import SimpleNamespace

import cv2
import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import reduced_trainings


@pytest.fixture
def data(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = cv2.imread(str(photos["coffee.png"]))
    for folder in ("train/BSD400", *(f"test/{task.test_set}" for task in reduced_trainings.TASKS.values())):
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "data" / folder / "a.png"), photo[100:228, 60:200])
    return tmp_path / "data"


@pytest.mark.parametrize("task", reduced_trainings.TASKS)
def test_trains_and_scores_beside_the_input(task, data, monkeypatch):
    from semanir_plugin.cli import main

    def basicsr(subcommand, opt):
        assert main([subcommand, "-opt", str(opt)]) == 0

    monkeypatch.setattr(reduced_trainings, "basicsr", basicsr)
    monkeypatch.setattr(reduced_trainings, "LEARNING_RATE", 1e-9)
    row = reduced_trainings.run_task(task, SimpleNamespace(data=data, iterations=2))
    name, test_set, before, *_ = row.split()
    assert (name, test_set) == (task, reduced_trainings.TASKS[task].test_set)
    assert {"gray_DN25": 19, "color_DN25": 19, "gray_JPEG10": 22, "Demosaic": 25, "rain": 15}[task] < float(before) < 40
    picture = cv2.imread(str(data.parent / "results" / f"reduced_{task}_test" / "comparison.png"))
    assert picture.shape[1] > picture.shape[0] > 280


@pytest.mark.parametrize(
    ("arguments", "message"), [(["JPEG"], "unknown task 'JPEG'"), (["--data", "no/such"], "--data must name a folder")]
)
def test_wrong_arguments_are_one_line(arguments, message, data, monkeypatch, capsys):
    monkeypatch.setenv("SEMANIR_DATA", str(data))
    monkeypatch.setattr(reduced_trainings, "run_in_venv", lambda: None)
    monkeypatch.setattr(sys, "argv", ["reduced_trainings.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        reduced_trainings.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
