from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations import darken, low_light
from semanir_plugin.degradations.linear_light import to_linear


@pytest.mark.parametrize("shape", [(60, 90, 3), (41, 7, 1)])
def test_form_range_and_seed(shape):
    clean = np.random.default_rng(0).random(shape, dtype=np.float32)
    dark = darken(clean, 0.1, seed=3)
    assert dark.shape == shape
    assert dark.dtype == np.float32
    assert dark.min() >= 0
    assert dark.max() <= 1
    assert dark.mean() < 0.6 * clean.mean()
    assert np.array_equal(dark, darken(clean, 0.1, seed=3))
    assert not np.array_equal(dark, darken(clean, 0.1, seed=4))


def gray(value):
    return np.full((100, 100, 1), value, np.float32)


@pytest.mark.parametrize(("exposure", "gamma"), [(0.5, 1), (0.1, 1), (0.3, 1.5)])
def test_light_is_lost_in_linear_light(exposure, gamma):
    light = to_linear(gray(0.7))[0, 0, 0]
    dark = to_linear(darken(gray(0.7), exposure, seed=0, gamma=gamma))
    assert dark.mean() == pytest.approx(exposure * light**gamma, rel=0.01)


def test_the_noise_is_of_electrons(monkeypatch):
    monkeypatch.setattr(low_light, "FULL_WELL", (2000.0, 2000.0))
    monkeypatch.setattr(low_light, "READ_NOISE", (5.0, 5.0))
    for exposure in (1, 0.2, 0.05):
        electrons = 2000 * exposure * to_linear(gray(0.6))[0, 0, 0]
        counted = 2000 * to_linear(darken(gray(0.6), exposure, seed=1))
        assert counted.var() == pytest.approx(electrons + 25, rel=0.1)


def test_sensors_differ():
    spreads = [darken(gray(0.5), 0.1, seed=seed).std() for seed in range(20)]
    assert max(spreads) > 1.5 * min(spreads)


def test_what_is_darker_is_noisier_relative_to_its_light():
    black = darken(gray(0), 0.05, seed=0)
    assert 0 < black.std() < 0.1
    noise = [darken(gray(0.5), exposure, seed=0) for exposure in (0.5, 0.1, 0.02)]
    shares = [each.std() / each.mean() for each in noise]
    assert shares == sorted(shares)
