from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from semanir_plugin.cli import main
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, stem, side in (("gt", "{}_clean", 16), ("lq", "{}_rain", 8), ("small", "{}_cleanx2", 8)):
        (tmp_path / folder).mkdir()
        for index in range(3):
            pixels = np.random.default_rng(index).integers(0, 256, (3 * side, 4 * side, 3), dtype=np.uint8)
            cv2.imwrite(f"{folder}/{stem.format(index)}.png", pixels)


def lines(path):
    with open(f"{path}/meta_info.txt") as file:
        return file.read().splitlines()


def test_a_folder(capsys):
    assert main(["lmdb", "-i", "gt", "-o", "gt.lmdb"]) == 0
    assert lines("gt.lmdb") == [f"{index}_clean.png (48,64,3) 1" for index in range(3)]
    out = capsys.readouterr()
    assert out.out == "gt.lmdb: 3 images\n"
    assert "images/s" not in out.err, "no progress bar where nobody looks"


def test_a_pair_of_folders(capsys):
    arguments = ["lmdb", "--input", "gt", "lq", "--output", "GT.lmdb", "LQ.lmdb", "--pair-by", "^[0-9]+"]
    more = ["--crop", "24", "--step", "12", "--threshold", "8", "--compress-level", "9", "--workers", "2"]
    assert main([*arguments, *more]) == 2
    assert "not a factor of 1; correct the scale" in capsys.readouterr().err
    assert main([*arguments, *more, "--scale", "2"]) == 0
    assert lines("GT.lmdb")[0] == "0_rain_s001.png (24,24,3) 9"
    assert lines("LQ.lmdb")[-1] == "2_rain_s012.png (12,12,3) 9"
    assert capsys.readouterr().out == "GT.lmdb: 36 images\nLQ.lmdb: 36 images\n"


def test_a_template():
    arguments = ["lmdb", "-i", "gt", "small", "-o", "a.lmdb", "b.lmdb", "--filename-tmpl", "{}x2", "--scale", "2"]
    assert main(arguments) == 0
    assert lines("b.lmdb")[0] == "0_clean.png (24,32,3) 1"


def test_overwriting_is_asked_for(capsys):
    assert main(["lmdb", "-i", "gt", "-o", "x.lmdb"]) == 0
    assert main(["lmdb", "-i", "lq", "-o", "x.lmdb"]) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert main(["lmdb", "-i", "lq", "-o", "x.lmdb", "--overwrite"]) == 0
    assert lines("x.lmdb")[0] == "0_rain.png (24,32,3) 1"


TWO = ["-i", "gt", "lq", "-o", "a.lmdb", "b.lmdb"]
ONE = ["-i", "gt", "-o", "a.lmdb"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-i", "absent", "-o", "a.lmdb"], "absent: no such folder; name a folder of photographs"),
        (["-i", "gt", "-o", "a"], "a: BasicSR wants an LMDB's name to end with .lmdb; call it so"),
        (["-i", "gt", "lq", "-o", "a.lmdb"], "name one folder and one LMDB, or two of each"),
        (["-i", "gt", "lq", "gt", "-o", "a.lmdb", "b.lmdb", "c.lmdb"], "name one folder and one LMDB, or two of each"),
        ([*ONE, "--scale", "2"], "--scale, --filename-tmpl and --pair-by are about two folders, but one is named"),
        ([*ONE, "--pair-by", "x"], "--scale, --filename-tmpl and --pair-by are about two folders, but one is named"),
        ([*ONE, "--filename-tmpl", "{}x"], "--scale, --filename-tmpl and --pair-by are about two folders"),
        ([*TWO, "--scale", "0"], "--scale and --workers must be at least 1"),
        ([*ONE, "--workers", "0"], "--scale and --workers must be at least 1"),
        ([*ONE, "--step", "4"], "--step and --threshold are about sub-images; give their side with --crop"),
        ([*ONE, "--threshold", "4"], "--step and --threshold are about sub-images; give their side with --crop"),
        ([*ONE, "--crop", "0"], "--crop and --step must be at least 1, --threshold at least 0"),
        ([*ONE, "--crop", "8", "--step", "0"], "--crop and --step must be at least 1, --threshold at least 0"),
        ([*ONE, "--crop", "8", "--threshold", "-1"], "--crop and --step must be at least 1, --threshold at least 0"),
        (TWO, "lq: no ground truth in gt for 0_rain, 1_rain, 2_rain; correct filename_tmpl or the folders"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(capsys, tmp_path, arguments, told):
    assert main(["lmdb", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"basicsr lmdb: {told}")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.lmdb*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "gt"], ["-o"]),
        ([*ONE, "--compress-level", "10"], ["--compress-level", "10"]),
        ([*ONE, "--corp", "8"], ["unknown argument '--corp'", "--crop"]),
        ([*TWO, "--pair-by", "x", "--filename-tmpl", "y"], ["not allowed with"]),
    ],
)
def test_misspelt_arguments(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(["lmdb", *arguments])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_the_documented_commands_fit_the_documented_layouts():
    layouts = (ROOT / "docs" / "datasets.md").read_text().partition("## Layouts")[2]
    for path in re.findall(r"\S+\.(?:png|jpg|bmp)", layouts):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(path, np.zeros((24, 32, 3) if "/X4/" in path else (96, 128, 3), np.uint8))
    commands = re.findall(r"^basicsr (.*?[^\\])$", layouts, re.MULTILINE | re.DOTALL)
    assert len(commands) > 8
    for command in commands:
        assert main(shlex.split(command.replace("\\\n", " "))) == 0
    assert lines("datasets/DF2K/LR_bicubic_X4.lmdb")[0] == "DIV2K_train-0001_s001.png (24,32,3) 1"
    assert lines("datasets/GoPro/train/LQ.lmdb") == ["GOPR0372_07_00-000047_s001.png (96,128,3) 1"]
    assert lines("datasets/OutdoorRain/train/GT.lmdb") == ["im_0001_s80_a04.png (96,128,3) 1"]


def test_it_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["lmdb", "--help"])
    out = capsys.readouterr().out
    assert "basicsr prepare lmdb -i" in out
    assert "--crop 480 --step 240" in out
