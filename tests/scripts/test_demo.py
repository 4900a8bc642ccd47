from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import bootstrap
import demo

needs_venv = pytest.mark.skipif(
    Path(sys.prefix).resolve() != bootstrap.VENV.resolve(), reason="would install .venv; scripts/test.py runs it there"
)


def run(cwd, *arguments):
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280)


@needs_venv
@pytest.mark.slow
def test_the_demo_beats_bicubic_and_draws_it(tmp_path):
    result = run(tmp_path, "--seconds", "1")  # the least it trains is 200 iterations
    assert result.returncode == 0, result.stderr
    assert "bicubic                    PSNR 28.54 dB" in result.stdout
    gain = float(re.search(r"gain +([+-][\d.]+) dB", result.stdout)[1])
    assert gain > 0.1
    picture = Path(re.search(r"Comparison picture: (.*)", result.stdout)[1])
    assert picture.is_relative_to(tmp_path.resolve())
    height, width = cv2.imread(str(picture)).shape[:2]
    assert width > height > 900


@needs_venv
def test_a_missing_folder_is_one_line(tmp_path):
    result = run(tmp_path, "--data", "no/such")
    assert result.returncode == 2
    assert result.stderr == "demo: no/such: no such folder; name a folder of photographs\n"


def test_every_eighth_photograph_is_kept_out(tmp_path):
    for index in range(10):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((8, 8, 3), np.uint8))
    train, test = demo.find_photos(tmp_path)
    assert [path.stem for path in test] == ["0", "8"]
    assert [path.stem for path in train] == list("12345679")


def test_photographs_kept_out_are_not_trained_on():
    assert not set(demo.TRAIN_PHOTOS) & set(demo.TEST_PHOTOS)
    train, test = demo.find_photos(None)
    assert all(path.is_file() for path in train + test)
