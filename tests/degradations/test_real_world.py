from __future__ import annotations

import cv2
import numpy as np
import pytest

from semanir_plugin.degradations import DegradationStage, compress_jpeg, degrade
from semanir_plugin.degradations.resize import resize
from semanir_plugin.pixels import to_float, to_uint8

NOTHING = {"blur_prob": 0, "noise_prob": 0, "compression_prob": 0}


@pytest.fixture(scope="module")
def photo(photos):
    return to_float(cv2.imread(str(photos["coffee.png"]))[:96, :128])


def run(photo, size=(24, 32), seed=0, **options):
    return degrade(photo, size, [DegradationStage(**{**NOTHING, **options})], np.random.default_rng(seed))


def test_a_stage_that_does_nothing_only_resizes(photo):
    expected = to_float(to_uint8(resize(photo, (24, 32), "area")))
    np.testing.assert_array_equal(run(photo, resize_list=["area"], antialias_prob=1), expected)
    np.testing.assert_array_equal(run(photo, size=(96, 128)), photo)
    np.testing.assert_array_equal(run(photo, prob=0), to_float(to_uint8(resize(photo, (24, 32), "bicubic"))))


def test_noise_has_the_strength_that_was_asked_for():
    flat = np.full((200, 200, 3), 0.25, np.float32)
    gaussian = run(flat, (200, 200), noise_prob=1, gaussian_noise_prob=1, noise_range=[10, 10], gray_noise_prob=0)
    assert 255 * (gaussian - flat).std() == pytest.approx(10, rel=0.02)
    photons = run(flat, (200, 200), noise_prob=1, gaussian_noise_prob=0, poisson_scale_range=[1, 1], gray_noise_prob=0)
    assert 255 * (photons - flat).std() == pytest.approx(255 / 16 * 0.5, rel=0.02)
    gray = run(flat, (200, 200), noise_prob=1, gray_noise_prob=1)
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])


def test_compression_comes_last_and_at_the_final_size(photo):
    small = run(photo, resize_list=["area"], antialias_prob=1)
    jpeg = {"compression_prob": 1, "webp_prob": 0, "jpeg_range": [40, 40], "resize_list": ["area"], "antialias_prob": 1}
    aligned, cropped = (run(photo, **jpeg, crop_prob=share) for share in (0, 1))
    np.testing.assert_array_equal(aligned, to_float(compress_jpeg(to_uint8(small), 40)))
    assert aligned.shape == cropped.shape
    assert not np.array_equal(aligned, cropped)
    assert np.abs(cropped - small).mean() < 0.05  # nothing has moved
    webp = run(photo, compression_prob=1, webp_prob=1, jpeg_range=[90, 90])
    assert 0 < np.abs(webp - small).mean() < 0.05


@pytest.mark.parametrize("kind", ["iso", "aniso", "sinc"])
def test_every_kind_of_blur_softens(photo, kind):
    blurred = run(photo, (96, 128), blur_prob=1, kernel_list=[kind], kernel_prob=[1], blur_sigma=[1.5, 2])
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.9 * np.abs(np.diff(photo, axis=1)).mean()
    assert np.abs(blurred.mean() - photo.mean()) < 0.01


def test_a_stage_before_the_last_changes_the_size_but_not_below_the_end(photo):
    sizes = []
    first = DegradationStage(**NOTHING, resize_prob=[1, 1, 1], resize_range=[0.05, 2])
    for seed in range(30):
        generator = np.random.default_rng(seed)
        degraded = degrade(photo, (24, 32), [first, DegradationStage(**NOTHING)], generator)
        assert degraded.shape == (24, 32, 3)
        sizes.append(np.abs(degraded - run(photo, antialias_prob=1)).mean())
    assert len({round(each, 6) for each in sizes}) > 20


def test_the_generator_decides_everything(photo):
    stages = [DegradationStage(prob=0.5), DegradationStage()]
    first, again, other = (degrade(photo, (24, 32), stages, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first, to_float(to_uint8(first)))


WRONG = {
    "blur_sigma must be [low, high] from 0.01 to 100, not [0, 2]": {"blur_sigma": [0, 2]},
    "noise_range must be [low, high] from 0 to 255, not [5, 1]": {"noise_range": [5, 1]},
    "jpeg_range must be [low, high] from 1 to 100, not [10, 20, 30]": {"jpeg_range": [10, 20, 30]},
    "kernel_prob must be 3 shares, not negative and not all 0, not [1, 2]": {"kernel_prob": [1, 2]},
    "resize_prob must be 3 shares, not negative and not all 0, not [0, 0, 0]": {"resize_prob": [0, 0, 0]},
    "sinc_cutoff must be [low, high] from 0.1 to 3.15, not [nan, 3]": {"sinc_cutoff": [float("nan"), 3]},
    "resize_list is empty: add a filter": {"resize_list": []},
}


@pytest.mark.parametrize(("problem", "options"), WRONG.items())
def test_what_cannot_be_right_is_told(problem, options):
    assert [told for _, told in DegradationStage(**options).problems()] == [problem]
    assert not list(DegradationStage().problems())
