from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations import add_haze, haze


def image(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(60, 90, 3), (41, 7, 1), (1, 1, 3)])
def test_form_range_and_seed(shape):
    clean = image(*shape)
    hazy = add_haze(clean, 1.2, seed=3)
    assert hazy.shape == shape
    assert hazy.dtype == np.float32
    assert hazy.min() >= 0
    assert hazy.max() <= 1
    assert np.array_equal(hazy, add_haze(clean, 1.2, seed=3))
    assert not np.array_equal(hazy, add_haze(clean, 1.2, seed=4))


@pytest.mark.parametrize(("beta", "airlight"), [(0.6, 0.9), (1.8, 0.7)])
def test_it_is_the_model_of_scattering(beta, airlight):
    clean, depth = image(50, 40, 3), haze.draw_depth((50, 40), np.random.default_rng(5))
    hazy = add_haze(clean, beta, seed=5, airlight=airlight)
    transmission = np.exp(-beta * depth)[..., None]
    np.testing.assert_allclose(hazy, clean * transmission + airlight * (1 - transmission), atol=1e-6)


def test_clear_air_and_thick_haze():
    clean = image(20, 30, 3)
    np.testing.assert_allclose(add_haze(clean, 0, seed=0), clean, atol=1e-6)
    spreads = [add_haze(clean, beta, seed=0).std() for beta in (0, 0.5, 1, 2)]
    assert spreads == sorted(spreads, reverse=True)
    far = haze.draw_depth((20, 30), np.random.default_rng(0)) == 1
    np.testing.assert_allclose(add_haze(clean, 50, seed=0, airlight=0.8)[far], 0.8, atol=1e-3)


def test_depths_grow_towards_the_horizon_and_are_smooth():
    depths = [haze.draw_depth((90, 120), np.random.default_rng(seed)) for seed in range(20)]
    assert min(each.min() for each in depths) >= 0
    assert max(each.max() for each in depths) == 1
    assert np.mean([each[:20].mean() - each[-20:].mean() for each in depths]) > 0.3
    assert max(np.abs(np.diff(each, axis=axis)).max() for each in depths for axis in (0, 1)) < 0.1
    assert np.std([each[-1].mean() for each in depths]) > 0.05


def test_a_ramp_without_noise(monkeypatch):
    for name, value in {"HORIZON": 0.25, "NEAREST": 0.2, "ROUGHNESS": 0.0}.items():
        monkeypatch.setattr(haze, name, (value, value))
    depth = haze.draw_depth((101, 3), np.random.default_rng(0))
    assert (depth[:26] == 1).all(), "above the horizon all is far"
    np.testing.assert_allclose(depth[-1], 0.2, atol=1e-6)
    np.testing.assert_allclose(np.diff(depth[26:, 0]), -0.8 / 75, atol=1e-4)
