from __future__ import annotations

import shutil
import sys

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import make_rain


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(make_rain, "run_in_venv", lambda: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["make_rain.py", *map(str, arguments)])
        return make_rain.main()

    return call


@pytest.fixture
def folder(tmp_path, photos):
    source = tmp_path / "photos"
    source.mkdir()
    for name in ("chelsea.png", "rocket.jpg"):
        shutil.copy(photos[name], source)
    return source


def read(path):
    return cv2.imread(str(path)).astype(int)


def test_pairs_follow_seed_and_name(run, folder, tmp_path):
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


def test_the_amount_is_that_of_the_streaks(run, folder, tmp_path, capsys):
    assert run(folder, tmp_path / "usual") == run(folder, tmp_path / "more", "--amount", 4) == 0
    usual, more = (read(tmp_path / each / "LQ" / "chelsea.png").mean() for each in ("usual", "more"))
    assert more > usual + 5
    with pytest.raises(SystemExit) as ended:
        run(folder, tmp_path / "none", "--amount", 1, 0)
    assert ended.value.code == 2
    assert "--amount must be above 0" in capsys.readouterr().err


def test_several_amounts_take_turns(run, folder, tmp_path):
    shutil.copy(folder / "chelsea.png", folder / "third.png")
    assert run(folder, tmp_path / "turns", "--amount", 0.5, 4) == run(folder, tmp_path / "light", "--amount", 0.5) == 0
    assert run(folder, tmp_path / "heavy", "--amount", 4) == 0
    for name, equal in (("chelsea", "light"), ("rocket", "heavy"), ("third", "light")):
        assert np.array_equal(*(read(tmp_path / each / "LQ" / f"{name}.png") for each in ("turns", equal)))


def test_what_is_wrong_is_told_in_a_line(run, folder, tmp_path, capsys):
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
