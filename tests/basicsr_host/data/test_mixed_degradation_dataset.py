from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
import yaml

from semanir_plugin.basicsr_host.data import MixedDegradationDataset
from semanir_plugin.basicsr_host.data.drawn_degradations import ScoredDegradation
from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import SeededIndex
from semanir_plugin.degradations import compress_jpeg
from tests.conftest import ROOT

LEVELS = {
    "clean": {},
    "noise": {"sigma": 25},
    "rain": {"amount": 2},
    "haze": {"beta": 1.2},
    "low_light": {"exposure": 0.1},
    "motion_blur": {"length": 9},
    "raindrops": {"drops": 300},
    "jpeg": {"quality": 10},
}


@pytest.fixture
def folder(tmp_path, photos):
    folder = tmp_path / "clean"
    folder.mkdir()
    for name in ("coffee", "chelsea"):
        cv2.imwrite(str(folder / f"{name}.png"), cv2.imread(str(photos[f"{name}.png"]))[60:108, 100:164])
    return folder


@pytest.fixture
def build(folder):
    def build(degradations, **options):
        opt = {"name": "x", "phase": "val", "dataroot_gt": str(folder), "io_backend": {"type": "disk"}, **options}
        return MixedDegradationDataset({**opt, "degradations": degradations})

    return build


def inputs(dataset):
    return [dataset[index]["lq"] for index in range(len(dataset))]


@pytest.mark.parametrize("name", LEVELS)
def test_inputs_and_truths_are_what_files_of_8_bit_hold(build, name):
    for sample in (build({name: LEVELS[name]})[index] for index in range(2)):
        for key in ("lq", "gt"):
            pixels = sample[key] * 255
            torch.testing.assert_close(pixels, pixels.round().clamp(0, 255), rtol=0, atol=1e-4)
        assert torch.equal(sample["lq"], sample["gt"]) == (name == "clean")


@pytest.mark.parametrize("name", ["noise", "rain", "haze", "low_light", "motion_blur", "raindrops"])
def test_other_seeds_draw_others_and_each_image_has_its_own(build, name, folder):
    first = inputs(build({name: LEVELS[name]}))
    assert all(torch.equal(*pair) for pair in zip(first, inputs(build({name: LEVELS[name]})), strict=True))
    assert not torch.equal(first[0], inputs(build({name: LEVELS[name]}, seed=1))[0])
    pixels = cv2.imread(str(folder / "coffee.png"))
    pixels[0, 0, 0] ^= 1
    cv2.imwrite(str(folder / "coffee.png"), pixels)
    again = inputs(build({name: LEVELS[name]}))
    assert torch.equal(again[0], first[0])
    assert not torch.equal(again[1][:, 20:], first[1][:, 20:]), "far from the pixel that is another"


@pytest.mark.parametrize(
    ("section", "seed", "told"),
    [
        ({"clean": {"weight": 3}}, 0, "clean"),
        ({"noise": {"sigma": 25}}, 0, "noise, sigma 25"),
        ({"motion_blur": {"length": 9, "quality": 75}}, 2, "motion blur, length 9, quality 75, seed 2"),
        ({"haze": {"beta": 1, "airlight": [0.7, 1]}, "rain": None}, 0, "haze, beta 1, airlight 0.7 to 1"),
    ],
)
def test_what_images_are_scored_on_in_words(section, seed, told):
    assert str(ScoredDegradation.read(section, seed)) == told


def test_a_jpeg_may_be_made_of_the_result(build):
    plain, compressed = (inputs(build({"rain": {"amount": 1, **more}}))[0] for more in ({}, {"quality": 30}))
    pixels = (plain * 255).round().byte().numpy().transpose(1, 2, 0)[..., ::-1]
    expected = compress_jpeg(np.ascontiguousarray(pixels), 30)[..., ::-1].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(compressed, expected, atol=1e-6)


def train(build, degradations, count, **more):
    options = {"phase": "train", "gt_size": 24, "use_hflip": False, "use_rot": False, **more}
    dataset = GuardedDataset(build(degradations, **options))
    return [dataset[SeededIndex(0, seed)] for seed in range(count)]


def test_noise_may_come_after_a_blur(build):
    still, moved = ({"length": length, "sigma": 10} for length in (0, 9))
    first, blurred = (build({"motion_blur": each})[0] for each in (still, moved))
    assert float((first["lq"] - first["gt"]).std()) * 255 == pytest.approx(10, rel=0.1)
    without = build({"motion_blur": {"length": 9}})[0]
    assert float((blurred["lq"] - without["lq"]).std()) * 255 == pytest.approx(10, rel=0.1), "the same way"


def test_a_margin_is_degraded_with_the_patch_and_cut_off(build, folder):
    (folder / "coffee.png").unlink()
    half = np.zeros((48, 64, 3), np.uint8)
    half[:, :32] = 255
    cv2.imwrite(str(folder / "chelsea.png"), half)
    plain = train(build, {"motion_blur": {"length": 20}}, 60)
    wider = train(build, {"motion_blur": {"length": 20}}, 60, margin=4)
    assert {tuple(sample[key].shape) for sample in wider for key in ("lq", "gt")} == {(3, 24, 24)}
    flat = [[each for each in samples if float(each["gt"].std()) == 0] for samples in (plain, wider)]
    assert all(torch.equal(each["lq"], each["gt"]) for each in flat[0])
    assert any(not torch.equal(each["lq"], each["gt"]) for each in flat[1]), "what is beside the patch moves into it"
    edge = train(build, {"clean": {}}, 1, margin=1000)[0]
    assert edge["gt"].shape == (3, 24, 24), "an image has the margin that it has"


def test_haze_of_the_recipe_is_as_even_in_a_patch_as_in_a_photograph(build, folder):
    recipe = yaml.safe_load((ROOT / "options" / "train_SemanIRUNet_mini_AllInOne.yml").read_text())
    options = recipe["datasets"]["train"]
    for path in folder.iterdir():
        cv2.imwrite(str(path), np.zeros((240, 240, 3), np.uint8))

    def unevenness(**given):
        samples = train(build, {"haze": {"beta": 1}}, 60, gt_size=options["gt_size"], **given)
        return np.mean([float(each["lq"].max() - each["lq"].min()) for each in samples])

    whole = np.mean(
        [
            float(each.max() - each.min())
            for seed in range(30)
            for each in inputs(build({"haze": {"beta": 1}}, seed=seed))
        ]
    )
    assert unevenness(margin=0) == pytest.approx(whole, rel=0.15), "a patch with a scene of its own has all its depth"
    assert unevenness(margin=options["margin"]) < 0.6 * whole


def test_weights_are_shares(build):
    drawn = {"clean": {"weight": 2}, "low_light": {"exposure": 0.01, "weight": 1}, "haze": {"beta": 20}, "rain": None}
    samples = train(build, drawn, 200)
    kinds = Counter()
    for sample in samples:
        brighter = float(sample["lq"].mean() - sample["gt"].mean())
        kinds["clean" if torch.equal(sample["lq"], sample["gt"]) else "dark" if brighter < 0 else "haze"] += 1
    assert kinds["clean"] == pytest.approx(100, abs=20)
    assert kinds["dark"] == pytest.approx(50, abs=20)
    assert kinds["haze"] == pytest.approx(50, abs=20)


@pytest.mark.parametrize(
    ("name", "level", "between", "measure"),
    [
        ("noise", {"sigma": [5, 30]}, (4, 31), lambda x: 255 * (x["lq"] - x["gt"]).std()),
        ("haze", {"beta": [0, 2], "airlight": 1}, (0, 1), lambda x: 1 - x["lq"].std() / x["gt"].std()),
        ("low_light", {"exposure": [0.02, 0.9]}, (0.1, 1), lambda x: x["lq"].mean() / x["gt"].mean()),
        ("jpeg", {"quality": [5, 95]}, (0, 0.2), lambda x: (x["lq"] - x["gt"]).std()),
    ],
    ids=["noise", "haze", "low_light", "jpeg"],
)
def test_training_draws_a_level_for_each_patch(build, name, level, between, measure):
    found = [float(measure(sample)) for sample in train(build, {name: level}, 30)]
    assert between[0] < min(found) < max(found) < between[1]
    assert max(found) > 3 * min(found)


@pytest.mark.parametrize(
    ("name", "plain", "drawn"),
    [("haze", {"airlight": 1}, {"airlight": [0.3, 0.5]}), ("low_light", {}, {"gamma": [1.5, 2.0]})],
)
def test_details_may_be_drawn_where_images_are_scored(build, name, plain, drawn):
    first, second = (inputs(build({name: {**LEVELS[name], **more}})) for more in (plain, drawn))
    assert all(other.mean() < each.mean() for each, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("phase", "degradations", "told"),
    [
        (
            "val",
            {},
            "degradations is empty: add one of clean, noise, rain, haze, low_light, motion_blur, raindrops, jpeg",
        ),
        ("val", {"rain": None}, "degradations is empty"),
        ("val", {"rain": {"amount": 1}, "clean": {}}, "give one degradation where images are scored, not rain, clean"),
        ("val", {"noise": {"sigma": [0, 50]}}, "noise: sigma must be one number where images are scored, not"),
        ("val", {"rain": {"amount": 1, "quality": [10, 90]}}, "rain: quality must be one number where images"),
        ("train", {"noise": {"sigma": 300}}, "noise: sigma must lie from 0 to 255, not 300"),
        ("train", {"haze": {"beta": 1, "airlight": [0.5, 1.5]}}, r"haze: airlight must lie from 0 to 1, not \[0.5"),
        ("train", {"low_light": {"exposure": 0}}, "low_light: exposure must lie from 0.001 to 1, not 0"),
        ("train", {"raindrops": {"drops": 5, "size": [1, 9]}}, r"raindrops: size must lie from 2 to 400, not \[1, 9\]"),
        ("train", {"motion_blur": {"length": 5, "sigma": -1}}, "motion_blur: sigma must lie from 0 to 255, not -1"),
        ("train", {"motion_blur": {"length": [9, 3]}}, r"motion_blur: length must be one number or \[low, high\]"),
    ],
)
def test_what_cannot_be_right(build, phase, degradations, told):
    with pytest.raises(ValueError, match=told):
        build(degradations, phase=phase)
