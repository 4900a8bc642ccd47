"""Each protocol's details, and the figures of the field by the very code that scores networks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils.matlab_functions import imresize

from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.degradations import add_gaussian_noise, imresize_uint8
from semanir_plugin.evaluation.leaderboard.contestants import ClassicalOptions, make_contestant
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet, TestSetOptions
from semanir_plugin.metrics import calculate_psnr_b, calculate_psnr_y_matlab, calculate_ssim_rgb3d
from semanir_plugin.pixels import to_float, to_uint8
from tests.conftest import ROOT


@pytest.fixture
def photo(photos):
    return cv2.imread(str(photos["chelsea.png"]))[20:87, 101:194]  # 67 x 93


@pytest.fixture
def folder(tmp_path, photo):
    cv2.imwrite(str(tmp_path / "cat.png"), photo)
    return tmp_path


def first(folder, protocol, scale=1, **options):
    return TestSet("x", TestSetOptions(gt=str(folder), **options), PROTOCOLS[protocol], scale).sample(0)


@pytest.fixture
def score(benchmark_data):
    def score(name, protocol, method, scale=1, **options):
        """Return the mean scores of a classical method on a test set."""
        folder = benchmark_data / "test" / name
        test_set = TestSet(name, TestSetOptions(gt=str(folder), **options), PROTOCOLS[protocol], scale)
        test_set.check()
        restorer = make_contestant("x", ClassicalOptions(classical=method), {"scale": scale}).prepare("")
        scores = []
        for index in range(len(test_set)):
            sample = test_set.sample(index)
            output = restorer.restore(sample, test_set)
            scores.append(test_set.protocol.score(output, sample.truth, scale, as_is=restorer.as_is))
        return {name: np.mean([each[name] for each in scores]) for name in scores[0]}

    return score


@pytest.mark.parametrize(
    ("name", "psnrs"),
    [
        ("Set5", {2: 33.68, 3: 30.41, 4: 28.43}),
        ("Set14", {2: 30.33, 3: 27.63, 4: 26.09}),
        pytest.param("BSD100", {4: 25.96}, marks=pytest.mark.slow),
    ],
)
def test_bicubic(score, name, psnrs):
    for scale, psnr in psnrs.items():
        assert score(name, "sr_y_crop", "bicubic", scale)["psnr"] == pytest.approx(psnr, abs=0.02)


@pytest.mark.parametrize(
    ("quality", "psnr", "ssim"), [(10, 27.82, 0.760), (20, 30.12, 0.834), (30, 31.48, 0.867), (40, 32.43, 0.885)]
)
def test_gray_jpeg(score, quality, psnr, ssim):
    scores = score("classic5", "jpeg_gray", "identity", quality=quality)
    assert scores["psnr"] == pytest.approx(psnr, abs=0.02)
    assert scores["ssim"] == pytest.approx(ssim, abs=0.001)
    assert scores["psnr_b"] < scores["psnr"] - 1


@pytest.mark.parametrize(("protocol", "psnr"), [("demosaicking_crop10", 34.43), ("demosaicking_full", 34.46)])
def test_malvar(score, protocol, psnr):
    assert score("McMaster", protocol, "malvar")["psnr"] == pytest.approx(psnr, abs=0.02)


@pytest.mark.parametrize(("name", "protocol"), [("Set12", "denoising_gray"), ("Set5", "denoising_color_bgr")])
def test_noise(score, name, protocol):
    """20 log10(255 / 25) = 20.17, give or take what one realisation leaves of the mean."""
    assert score(name, protocol, "identity", sigma=25)["psnr"] == pytest.approx(20.17, abs=0.04)


@pytest.mark.parametrize(
    ("protocol", "size"), [("sr_y_crop", (64, 92)), ("sr_y_crop@1", (64, 92)), ("basicsr_rgb_mod12", (60, 84))]
)
def test_super_resolution_crops_and_shaves(folder, photo, protocol, size):
    sample = first(folder, protocol, 4)
    truth = photo[: size[0], : size[1]]
    assert np.array_equal(to_uint8(sample.truth), truth)
    in_floats = to_uint8(imresize(to_float(truth), 1 / 4))
    expected = imresize_uint8(truth, 1 / 4) if protocol == "sr_y_crop" else in_floats
    assert np.array_equal(to_uint8(sample.input), expected)
    assert not np.array_equal(imresize_uint8(truth, 1 / 4), in_floats)
    assert np.array_equal(sample.input, to_float(to_uint8(sample.input))), "saved as 8 bit"
    output = imresize(sample.input, 4)
    y = protocol.startswith("sr_y_crop")
    assert PROTOCOLS[protocol].score(output, sample.truth, 4) == {
        "psnr": calculate_psnr(to_uint8(output), truth, 4, test_y_channel=y),
        "ssim": calculate_ssim(to_uint8(output), truth, 4, test_y_channel=y),
    }


def test_noise_is_drawn_in_the_named_order(folder, photo):
    noisy = {name: first(folder, f"denoising_color_{name}", sigma=30).input for name in ("bgr", "rgb")}
    for name, image in noisy.items():
        np.random.seed(0)
        noise = np.random.normal(0, 30 / 255, photo.shape)
        expected = to_float(photo) + (noise if name == "bgr" else noise[..., ::-1])
        assert np.abs(image - expected).max() < 1e-6
        assert image.min() < 0
    assert first(folder, "denoising_gray", sigma=30).input.shape == (67, 93, 1)


def test_results_are_clipped_and_rounded_but_inputs_as_they_are(folder, photo):
    truth = to_float(photo)
    noisy = add_gaussian_noise(truth, 50, seed=0)
    protocol = PROTOCOLS["denoising_color_bgr"]
    assert protocol.score(noisy, truth, 1)["psnr"] == calculate_psnr(to_uint8(noisy), photo, 0)
    assert protocol.score(noisy, truth, 1, as_is=True)["psnr"] == pytest.approx(14.15, abs=0.2)
    assert protocol.score(noisy, truth, 1)["psnr"] > protocol.score(noisy, truth, 1, as_is=True)["psnr"] + 0.3


def test_colour_jpeg_is_scored_in_rgb_and_y(folder, photo):
    sample = first(folder, "jpeg_color", quality=20)
    jpeg = to_uint8(sample.input)
    assert PROTOCOLS["jpeg_color"].score(sample.input, sample.truth, 1) == {
        "psnr": calculate_psnr(jpeg, photo, 0),
        "ssim": calculate_ssim(jpeg, photo, 0),
        "psnr_b": calculate_psnr_b(jpeg, photo, 0),
        "psnr_y": calculate_psnr(jpeg, photo, 0, test_y_channel=True),
        "ssim_y": calculate_ssim(jpeg, photo, 0, test_y_channel=True),
    }


def test_pairs_are_scored_as_each_task_does(photo):
    truth = to_float(photo)
    output = cv2.GaussianBlur(truth, (0, 0), 0.8) + np.float32(0.3 / 255)
    pixels = to_uint8(output)
    assert PROTOCOLS["deblurring_rgb"].score(output, truth, 1)["ssim"] == calculate_ssim_rgb3d(pixels, photo, 0)
    assert PROTOCOLS["derain_y"].score(output, truth, 1)["psnr"] == calculate_psnr_y_matlab(pixels, photo, 0)
    assert PROTOCOLS["weather_rgb"].score(output, truth, 1)["psnr"] == calculate_psnr(pixels, photo, 0)
    unrounded = 10 * np.log10(1 / np.square(output.clip(0, 1).astype(float) - truth).mean())
    for name in ("raindrop_rgb", "dehaze_rgb"):
        psnr = PROTOCOLS[name].score(output, truth, 1)["psnr"]
        assert psnr == pytest.approx(unrounded, abs=1e-6)
        assert abs(psnr - calculate_psnr(pixels, photo, 0)) > 1e-4


def test_borders_count_or_do_not(photo):
    truth = to_float(photo)
    output = truth.copy()
    output[:10] = output[-10:] = 0
    output[:, :10] = output[:, -10:] = 0
    assert PROTOCOLS["demosaicking_crop10"].score(output, truth, 1)["psnr"] == np.inf
    assert PROTOCOLS["demosaicking_full"].score(output, truth, 1)["psnr"] < 15


def test_another_shape_is_refused(photo):
    truth = to_float(photo)
    with pytest.raises(ValueError, match="the result is 93x66 with 3 channels, but the ground truth is 93x67 with 3"):
        PROTOCOLS["weather_rgb"].score(truth[1:], truth, 1)


def test_the_documentation_has_every_protocol():
    text = (ROOT / "docs" / "leaderboard.md").read_text()
    for name, protocol in PROTOCOLS.items():
        scores = ", ".join(metric.label for metric in protocol.metrics)
        if name == f"{protocol.name}@{PROTOCOLS[protocol.name].version}":  # another name of the newest
            continue
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| {protocol.version} | {protocol.task} |" in row
        assert f"| {scores} | {protocol.description} |" in row


def test_every_protocol_names_itself():
    for name, protocol in PROTOCOLS.items():
        assert name in (protocol.name, f"{protocol.name}@{protocol.version}")
        assert PROTOCOLS[protocol.name].version >= protocol.version
    assert {name: each.label for name, each in PROTOCOLS.items() if "sr_y" in name} == {
        **{"sr_y_crop": "sr_y_crop-v2", "sr_y_crop@1": "sr_y_crop-v1", "sr_y_crop@2": "sr_y_crop-v2"}
    }
    assert {protocol.task for protocol in PROTOCOLS.values()} == {
        *("sr", "denoising", "jpeg", "demosaicking", "deblurring", "weather", "derain", "all_in_one")
    }
