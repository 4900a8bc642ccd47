from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations import blur_by_motion, motion_blur
from semanir_plugin.degradations.linear_light import to_linear


@pytest.mark.parametrize("shape", [(60, 90, 3), (41, 7, 1)])
def test_form_range_and_seed(shape):
    clean = np.random.default_rng(0).random(shape, dtype=np.float32)
    blurred = blur_by_motion(clean, 9, seed=3)
    assert blurred.shape == shape
    assert blurred.dtype == np.float32
    assert blurred.min() >= 0
    assert blurred.max() <= 1
    assert blurred.std() < 0.6 * clean.std()
    assert np.array_equal(blurred, blur_by_motion(clean, 9, seed=3))
    assert not np.array_equal(blurred, blur_by_motion(clean, 9, seed=4))


def test_at_rest_nothing_changes():
    clean = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
    np.testing.assert_allclose(blur_by_motion(clean, 0, seed=0), clean, atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 5.5, 40])
def test_kernels_keep_light_and_place_and_are_as_long_as_asked(length):
    for seed in range(10):
        kernel = motion_blur.draw_motion(length, np.random.default_rng(seed))
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        places = np.arange(len(kernel)) - len(kernel) // 2
        assert kernel.sum(0) @ places == pytest.approx(0, abs=1e-3)
        assert kernel.sum(1) @ places == pytest.approx(0, abs=1e-3)
        y, x = np.nonzero(kernel > 1e-4)
        assert np.hypot(np.ptp(y), np.ptp(x)) <= length + 4


def test_a_motion_that_does_not_bend_is_a_line(monkeypatch):
    monkeypatch.setattr(motion_blur, "BEND", (0.0, 0.0))
    kernel = motion_blur.draw_motion(30, np.random.default_rng(1))
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    spread = np.linalg.eigvalsh(np.cov(np.stack([y.ravel(), x.ravel()]), aweights=kernel.ravel()))
    assert spread[0] < 0.5
    assert np.sqrt(12 * spread[1]) == pytest.approx(30, rel=0.05), "evenly along its length"


def test_motions_bend_at_random():
    reaches = []
    for seed in range(20):
        y, x = np.nonzero(motion_blur.draw_motion(30, np.random.default_rng(seed)) > 1e-4)
        reaches.append(np.hypot(np.ptp(y), np.ptp(x)))
    assert max(reaches) > 27
    assert min(reaches) < 25


def test_light_adds_up_in_linear_light():
    night = np.zeros((41, 41, 1), np.float32)
    night[20, 20] = 1
    assert to_linear(blur_by_motion(night, 10, seed=0)).sum() == pytest.approx(1, rel=1e-4)
