from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations import add_gaussian_noise


def image(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_realisation_is_that_of_swinir(channels):
    clean = image(7, 5, channels)
    np.random.seed(0)
    expected = clean + np.random.normal(0, 25 / 255.0, clean.shape)
    noisy = add_gaussian_noise(clean, 25, seed=0)
    assert noisy.dtype == np.float32
    np.testing.assert_array_equal(noisy, expected.astype(np.float32))


def test_the_other_order_draws_for_red_first():
    clean = image(7, 5, 3)
    np.random.seed(0)
    expected = (clean[..., ::-1] + np.random.normal(0, 25 / 255.0, clean.shape))[..., ::-1]
    np.testing.assert_array_equal(add_gaussian_noise(clean, 25, seed=0, order="rgb"), expected.astype(np.float32))
    gray = image(7, 5, 1)
    np.testing.assert_array_equal(
        add_gaussian_noise(gray, 25, seed=0, order="rgb"), add_gaussian_noise(gray, 25, seed=0)
    )


def test_noise_is_neither_clipped_nor_quantised():
    noise = 255 * (add_gaussian_noise(np.ones((200, 200, 3), np.float32), 15, seed=3) - 1)
    assert noise.max() > 40
    assert noise.std() == pytest.approx(15, rel=0.01)
    assert len(np.unique(noise)) > 50_000


def test_without_a_seed_the_global_generator_draws():
    clean = image(7, 5, 3)
    np.random.seed(7)
    first, second = add_gaussian_noise(clean, 25), add_gaussian_noise(clean, 25)
    assert not np.array_equal(first, second)
    np.random.seed(7)
    np.testing.assert_array_equal(first, add_gaussian_noise(clean, 25))
    state = np.random.get_state()[2]
    add_gaussian_noise(clean, 25, seed=0)
    assert np.random.get_state()[2] == state
