from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations import add_rain_streaks, rain


@pytest.mark.parametrize("shape", [(60, 90, 3), (41, 7, 1)])
def test_rain_brightens_within_the_range_and_follows_the_seed(shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    rainy = add_rain_streaks(image, seed=3)
    assert rainy.shape == shape
    assert rainy.dtype == np.float32
    assert (rainy >= image - 1e-6).all()
    assert rainy.max() <= 1
    assert (rainy - image).mean() > 0.005
    assert np.array_equal(rainy, add_rain_streaks(image, seed=3))
    assert not np.array_equal(rainy, add_rain_streaks(image, seed=4))


def test_white_stays_white_and_all_channels_are_equally_wet():
    assert (add_rain_streaks(np.ones((20, 20, 3), np.float32), seed=0) == 1).all()
    rainy = add_rain_streaks(np.zeros((50, 50, 3), np.float32), seed=0)
    assert (rainy == rainy[..., :1]).all()
    assert rainy.std() > 0.01


@pytest.mark.parametrize(("angle", "steep"), [(90, True), (0, False)])
def test_streaks_run_along_their_angle(monkeypatch, angle, steep):
    monkeypatch.setattr(rain, "ANGLE", (angle, angle))
    black = np.zeros((120, 120, 1), np.float32)
    changes = [np.abs(np.diff(add_rain_streaks(black, seed=1)[..., 0], axis=axis)).mean() for axis in (0, 1)]
    assert (changes[1] > 2 * changes[0]) == steep
    assert (changes[0] > 2 * changes[1]) != steep


def test_a_line_leans_as_its_angle_says():
    kernel = rain._line(20, 45, 0.5)
    middle = len(kernel) // 2
    assert kernel[middle, middle] == 1
    assert kernel[middle - 5, middle + 5] > 0.9, "up and to the right"
    assert kernel[middle + 5, middle + 5] < 1e-6
    assert kernel[middle - 10, middle + 10] < 0.1, "beyond its end"


def test_every_image_in_a_set_has_rain_of_another_strength():
    black = np.zeros((64, 64, 1), np.float32)
    means = [add_rain_streaks(black, seed=seed).mean() for seed in range(20)]
    assert max(means) > 3 * min(means)
    assert max(means) < 0.6


def test_more_drops_are_more_rain():
    black = np.zeros((64, 64, 1), np.float32)
    for seed in range(5):
        few, usual, many = (add_rain_streaks(black, seed=seed, amount=amount) for amount in (0.5, 1, 4))
        assert (few <= usual + 1e-6).all()
        assert (usual <= many + 1e-6).all()
        assert many.mean() > 2 * few.mean()
    assert np.array_equal(usual, add_rain_streaks(black, seed=seed))
