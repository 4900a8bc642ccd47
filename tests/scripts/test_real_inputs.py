"""Pictures as people have them: the same ones every time, what their names say, judged as the metrics have it."""

from __future__ import annotations

import json
import re
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from semanir_plugin.metrics import calculate_ringing, calculate_specks
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import real_inputs
from real_pictures import damage
from real_pictures.making import CLASSES

PHOTOGRAPHS = 4
COUNTS = {"screens-jpeg": 8, "screens-png": 8, "drawings-jpeg": 6, "drawings-png": 6, "icons": 4}


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    """A folder of photographs as the test sets lie."""
    folder = tmp_path_factory.mktemp("data")
    for part, name in (("Kodak24", "astronaut"), ("McMaster", "coffee"), ("Set14", "chelsea")):
        (folder / part).mkdir()
        cv2.imwrite(str(folder / part / f"{name}.png"), cv2.imread(str(photos[f"{name}.png"]))[:202, :243])
    return folder


def make(out, data, *arguments):
    command = ["make", str(out), "--data", str(data), "--photographs", str(PHOTOGRAPHS), *arguments]
    assert real_inputs.main(command) == 0
    return out


@pytest.fixture(scope="module")
def doubled(data, tmp_path_factory):
    return make(tmp_path_factory.mktemp("x2"), data, "--scale", "2")


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_all_classes_are_there_in_pairs(doubled):
    assert {path.name for path in doubled.iterdir()} == set(CLASSES)
    for name in CLASSES:
        truths, inputs = (sorted((doubled / name / part).iterdir()) for part in ("GT", "LR"))
        assert len(truths) == COUNTS.get(name, PHOTOGRAPHS)
        assert [path.stem for path in truths] == [path.stem for path in inputs]
        for truth, small in zip(truths, inputs, strict=True):
            with Image.open(truth) as large, Image.open(small) as little:
                assert large.size == (2 * little.width, 2 * little.height)
                assert large.mode == little.mode == ("RGBA" if name == "icons" else "RGB")


def test_names_tell_what_was_done(doubled):
    for path in doubled.rglob("LR/*"):
        quality = re.search(r"jpeg(\d+)$", path.stem)
        assert (path.suffix == ".jpg") == (quality is not None)
        if quality:
            with Image.open(path) as image:
                found = image.quantization[0][1]
            step = (5000 / int(quality[1]) if int(quality[1]) < 50 else 200 - 2 * int(quality[1])) * 11
            assert found == max(1, int((step + 50) / 100)), "libjpeg's table of that quality"


def test_the_same_pictures_every_time_and_other_noise_of_another_seed(doubled, data, tmp_path):
    noisy = ["--scale", "2", "--classes", "photographs-noise", "icons"]
    again = files(make(tmp_path / "again", data, *noisy))
    assert again == {path: content for path, content in files(doubled).items() if path.parts[0] in noisy}
    other = files(make(tmp_path / "other", data, *noisy, "--seed", "1"))
    assert {path.parts[:2] for path in again if again[path] != other[path]} == {("photographs-noise", "LR")}


@pytest.mark.parametrize(("kind", "strength"), [("gauss", 1.5), ("disk", 2.5), ("sinc", 3.0)])
def test_blur_keeps_the_light(kind, strength):
    image = np.zeros((41, 41, 3), np.float32)
    image[20, 20] = 1
    spread = damage.blur(image, kind, strength)
    assert spread.max() < 0.2
    assert damage.blur(np.full_like(image, 0.7), kind, strength) == pytest.approx(0.7, abs=1e-5)
    assert np.allclose(spread, spread[::-1, ::-1], atol=1e-6)


def test_noise_of_light_grows_with_it_and_is_a_cameras():
    light = np.array([0.1, 0.5, 0.9])
    image = np.broadcast_to((light ** (1 / damage.GAMMA)).astype(np.float32), (300, 300, 3))
    noisy = damage.add_camera_noise(image, 1000, np.random.default_rng(0)).astype(np.float64) ** damage.GAMMA
    assert noisy.mean((0, 1)) == pytest.approx(light, rel=5e-3)
    assert noisy.var((0, 1)) == pytest.approx(light / 1000 + damage.READ_NOISE**2, rel=0.03)


@pytest.mark.parametrize("by", ["bicubic", "area", "bilinear"])
def test_reducing(by):
    image = np.random.default_rng(0).random((12, 16, 4)).astype(np.float32)
    assert damage.reduce(image, 4, by).shape == (3, 4, 4)
    assert damage.reduce(image, 1, by) is image
    if by == "area":
        np.testing.assert_allclose(damage.reduce(image, 4, by), image.reshape(3, 4, 4, 4, 4).mean((1, 3)), rtol=1e-5)


def test_scores_table_and_sheets(doubled, tmp_path, capsys):
    command = ["score", str(doubled), "--scale", "2", "--model", "semanir-mini-x2", "--classes", "icons"]
    assert real_inputs.main([*command, "--json", str(tmp_path / "scores.json"), "--sheets", str(tmp_path)]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())["icons"]
    assert len(scores) == 4
    mean = np.mean([each["semanir-mini-x2"]["psnr"] for each in scores.values()])
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.startswith("| pictures | | PSNR, bicubic | PSNR, semanir-mini-x2 | of Y, bicubic |")
    assert row.split(" | ")[:2] == ["| icons", "4"]
    assert row.split(" | ")[3] == f"{mean:.2f}"
    with Image.open(tmp_path / "x2_icons.png") as sheet:
        assert sheet.size == (3 * 360, 4 * 378)


def test_a_picture_that_is_left_alone_is_judged_as_it_is(data, tmp_path, capsys):
    out = make(tmp_path, data, "--scale", "1", "--classes", "drawings-jpeg", "drawings-png")
    command = ["score", str(out), "--scale", "1", "--model", "semanirunet-mini-color-dnblind", "--classes"]
    pictures = list(real_inputs.restore_all(out / "drawings-jpeg", {"as it is": real_inputs.bicubic(1)}, 1))
    found = [
        (each.results["as it is"], cv2.imread(str(out / f"drawings-jpeg/GT/{each.name}.png"))) for each in pictures
    ]
    for (restored, truth), picture in zip(found, pictures, strict=True):
        scores = picture.scores["as it is"]
        assert scores.specks == pytest.approx(calculate_specks(restored[..., ::-1], truth, 1), nan_ok=True)
        assert scores.ringing == pytest.approx(calculate_ringing(restored[..., ::-1], truth, 1))
    assert all(each.scores["as it is"].ringing > 1 for each in pictures), "mosquitoes of JPEG"
    assert real_inputs.main([*command, "photographs-jpeg"]) == 2
    assert "photographs-jpeg: has no pictures in LR; make them first" in capsys.readouterr().err
    assert real_inputs.main(["score", str(out), "--model", "semanirunet-mini-color-dnblind"]) == 2
    assert (
        "semanirunet-mini-color-dnblind: enlarges by 1, the pictures are for 4; give --scale" in capsys.readouterr().err
    )


def test_without_photographs(tmp_path, capsys):
    assert real_inputs.main(["make", str(tmp_path), "--data", str(tmp_path)]) == 2
    assert "has no photographs in Kodak24, McMaster, Set14; name the folder with them" in capsys.readouterr().err
