"""Weights that come with the package: small, described, and worth having."""

from __future__ import annotations

import re
import sys

import cv2
import numpy as np
import pytest

from semanir_plugin.basicsr_host.data.rain_pairs import write_rain_pairs
from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.cli import main
from semanir_plugin.degradations import downsample_bicubic
from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.leaderboard.contestants import ClassicalOptions, WeightsOptions, make_contestant
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet, TestSetOptions
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.shipped_weights import FOLDER, find_weights, shipped_weights
from semanir_plugin.pixels import to_float
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
from trainings.data import USUAL

NAMES = sorted(shipped_weights())
CARD = (FOLDER / "README.md").read_text()
SHAKEN = {"motion_blur": {"length": 9, "sigma": 1}}
# By name: protocol, options of Set5, what the weights are compared with, the scale, and by how many dB they are better.
SCORED = {
    "semanir-mini-x2": ("sr_y_crop", {}, "bicubic", 2, 1.5),
    "semanir-mini-x2-real": ("sr_real_rgb", {}, "bicubic", 2, 0.5),
    "semanir-mini-x3": ("sr_y_crop", {}, "bicubic", 3, 1.5),
    "semanir-mini-x4": ("sr_y_crop", {}, "bicubic", 4, 1.5),
    "semanir-mini-x4-real": ("sr_real_rgb", {}, "bicubic", 4, 0.5),
    "semanirunet-mini-color-dnblind": ("denoising_color_bgr", {"sigma": 25}, "identity", 1, 10),
    "semanirunet-mini-gray-dnblind": ("denoising_gray", {"sigma": 25}, "identity", 1, 10),
    "semanirunet-mini-color-jpegblind": ("jpeg_color", {"quality": 40}, "identity", 1, 0.8),
    "semanirunet-mini-demosaic": ("demosaicking_crop10", {}, "malvar", 1, 3),
    "semanirunet-mini-deblur": ("drawn_rgb", {"degradations": SHAKEN}, "identity", 1, 1.5),
    "ast-mini-derain": ("derain_y", {"lq": "rain"}, "identity", 1, 4),
}


@pytest.fixture
def set5(benchmark_data, tmp_path):
    """Set5, and a folder `rain` of its images in the rain, as trainings are validated on."""
    folder = benchmark_data / "test" / "Set5"
    write_rain_pairs(str(folder), tmp_path / "pairs", 2, USUAL.rain)
    return {"gt": str(folder), "rain": str(tmp_path / "pairs" / "LQ")}


def score(options, protocol, settings, scale):
    test_set = TestSet("Set5", TestSetOptions(**settings), protocol, scale)
    test_set.check()
    restorer = make_contestant("x", options, {"scale": scale, "num_gpu": 0, "manual_seed": 0})
    restorer = restorer.prepare(restorer.checkpoint_path(test_set))
    samples = [test_set.sample(index) for index in range(len(test_set))]
    outputs = [restorer.restore(sample, test_set) for sample in samples]
    scores = [
        test_set.protocol.score(output, sample.truth, scale, as_is=restorer.as_is)["psnr"]
        for sample, output in zip(samples, outputs, strict=True)
    ]
    return np.mean(scores)


def test_a_size_that_is_not_trained_is_no_other_network():
    with pytest.raises(UserError, match=r"no file and no weights 'semanir-light-x4'.*; names: .*semanir-mini-x4"):
        find_weights("semanir-light-x4")


def test_something_is_shipped():
    assert set(SCORED) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_has_its_place_on_the_card(name):
    path = shipped_weights()[name]
    assert path.stat().st_size <= 5_000_000
    assert f"## {name}\n" in CARD
    parameters = sum(p.numel() for p in load(path).module.parameters())
    assert f"{parameters:,} parameters" in CARD.partition(f"## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_tells_the_scores(name, set5):
    protocol, settings, baseline, scale, gain = SCORED[name]
    settings = {"gt": set5["gt"], **settings, **({"lq": set5["rain"]} if "lq" in settings else {})}
    section = CARD.partition(f"## {name}\n")[2].partition("\n## ")[0]
    told = [float(cell) for cell in re.findall(r"[\d.]+(?= / )", next(re.finditer(r"\| Set5 .*", section))[0])]
    newest = PROTOCOLS[protocol]
    versions = [
        newest,
        *(each for each in PROTOCOLS.values() if each.name == protocol and each.version < newest.version),
    ]
    assert len(told) == 2 * len(versions), "the newest version's scores come first"
    for version, before, after in zip(versions, told[::2], told[1::2], strict=True):
        assert score(ClassicalOptions(classical=baseline), version, settings, scale) == pytest.approx(before, abs=0.01)
        assert score(WeightsOptions(weights=name).resolve(), version, settings, scale) == pytest.approx(after, abs=0.01)
        assert after > before + gain


def test_a_photograph_is_restored_by_name(photos, tmp_path):
    truth = cv2.imread(str(photos["coffee.png"]))[100:260, 60:300]
    small = downsample_bicubic(to_float(truth), 4)
    cv2.imwrite(str(tmp_path / "photo.png"), small)
    assert (
        main(["restore", str(tmp_path / "photo.png"), "-o", str(tmp_path / "x4.png"), "--model", "semanir-mini-x4"])
        == 0
    )
    enlarged = cv2.resize(small, truth.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    errors = [np.square(each - truth.astype(float)).mean() for each in (cv2.imread(str(tmp_path / "x4.png")), enlarged)]
    assert errors[0] < 0.8 * errors[1]
