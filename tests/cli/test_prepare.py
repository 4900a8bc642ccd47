"""`basicsr prepare`: what its sub-subcommands write, and that the scripts of earlier are the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from semanir_plugin.cli import main
from tests.conftest import ROOT


def run(*arguments):
    return main(["prepare", "rain", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, photos):
    source = tmp_path / "photos"
    source.mkdir()
    for name in ("chelsea.png", "rocket.jpg"):
        shutil.copy(photos[name], source)
    return source


def read(path):
    return cv2.imread(str(path)).astype(int)


def test_pairs_follow_seed_and_name(folder, tmp_path):
    assert run(folder, tmp_path / "a", "--seed", 1) == 0
    for name in ("chelsea", "rocket"):
        gt, lq = (read(tmp_path / "a" / kind / f"{name}.png") for kind in ("GT", "LQ"))
        assert np.array_equal(gt, read(next(folder.glob(f"{name}.*"))))
        assert (lq >= gt).all()
        assert (lq - gt).mean() > 1
    (folder / "chelsea.png").unlink()
    assert run(folder, tmp_path / "b", "--seed", 1) == run(folder, tmp_path / "c", "--seed", 2) == 0
    a, b, c = (read(tmp_path / each / "LQ" / "rocket.png") for each in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_amount_is_that_of_the_streaks(folder, tmp_path, capsys):
    assert run(folder, tmp_path / "usual") == run(folder, tmp_path / "more", "--amount", 4) == 0
    usual, more = (read(tmp_path / each / "LQ" / "chelsea.png").mean() for each in ("usual", "more"))
    assert more > usual + 5
    with pytest.raises(SystemExit) as ended:
        run(folder, tmp_path / "none", "--amount", 1, 0)
    assert ended.value.code == 2
    assert "argument --amount: must be a number above 0 and at most 100, not '0'" in capsys.readouterr().err


def test_several_amounts_take_turns(folder, tmp_path):
    shutil.copy(folder / "chelsea.png", folder / "third.png")
    assert run(folder, tmp_path / "turns", "--amount", 0.5, 4) == run(folder, tmp_path / "light", "--amount", 0.5) == 0
    assert run(folder, tmp_path / "heavy", "--amount", 4) == 0
    for name, equal in (("chelsea", "light"), ("rocket", "heavy"), ("third", "light")):
        assert np.array_equal(*(read(tmp_path / each / "LQ" / f"{name}.png") for each in ("turns", equal)))


def test_what_is_wrong_is_told_in_a_line(folder, tmp_path, capsys):
    (tmp_path / "old" / "LQ").mkdir(parents=True)
    assert run(folder, tmp_path / "old") == 2
    assert "LQ is there already; remove it" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", tmp_path / "new") == 2
    assert "no such folder" in capsys.readouterr().err
    shutil.copy(folder / "chelsea.png", folder / "chelsea.bmp")
    assert run(folder, tmp_path / "new") == 2
    assert "differ in their suffix alone" in capsys.readouterr().err
    (folder / "chelsea.bmp").unlink()
    (folder / "broken.png").write_bytes(b"PNG")
    assert run(folder, tmp_path / "new") == 2
    assert "broken.png: the image cannot be decoded" in capsys.readouterr().err
    assert not list((tmp_path / "new").iterdir()), "half of the pairs could be taken for all"
    (tmp_path / "file").touch()
    assert run(folder, tmp_path / "file") == 2
    assert "cannot write there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "kind", "more"), [("prepare_sr_data", "sr", ["--scale", "2"]), ("make_rain", "rain", [])]
)
def test_the_scripts_are_the_same(folder, tmp_path, script, kind, more):
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), str(folder), "by_script", *more]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "SEMANIR_VENV": "0"}, check=True)
    assert main(["prepare", kind, str(folder), str(tmp_path / "by_command"), *more]) == 0
    by_script, by_command = (
        {path.relative_to(tmp_path / each): path.read_bytes() for path in (tmp_path / each).rglob("*.png")}
        for each in ("by_script", "by_command")
    )
    assert by_script == by_command
    assert len(by_script) == 4


def test_what_cannot_be_prepared_is_one_line(folder, tmp_path, capsys):
    assert main(["prepare", "sr", str(folder), str(tmp_path / "out"), "--scale", "4", "--crop", "30"]) == 2
    assert capsys.readouterr().err == (
        "basicsr prepare sr: the side of the sub-images, 30, is not a multiple of the scale 4\n"
    )
    assert main(["prepare", "lmdb", "-i", str(folder), "-o", "a"]) == 2
    assert capsys.readouterr().err.startswith("basicsr prepare lmdb: a: BasicSR wants")


def test_sub_images_cover_each_photograph(folder, tmp_path, capsys):
    words = ["prepare", "sub-images", str(folder), str(tmp_path / "out"), "--crop", "160", "--step", "150"]
    assert main(words) == 0
    photo = cv2.imread(str(folder / "chelsea.png"))  # 300 x 451
    covered = np.zeros(photo.shape[:2], bool)
    corners = [(top, left) for top in (0, 140) for left in (0, 150, 291)]
    for number, (top, left) in enumerate(corners, 1):
        part = cv2.imread(str(tmp_path / "out" / f"chelsea_s{number:03d}.png"))
        assert np.array_equal(part, photo[top : top + 160, left : left + 160])
        covered[top : top + 160, left : left + 160] = True
    assert covered.all()
    assert f"{len(list((tmp_path / 'out').iterdir()))} images" in capsys.readouterr().out
    assert main(words) == 2
    assert "out is there already" in capsys.readouterr().err
    (folder / "broken.png").write_bytes(b"PNG")
    assert main([*words[:3], str(tmp_path / "more"), "--crop", "160"]) == 2
    assert "broken.png: the image cannot be decoded" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()
