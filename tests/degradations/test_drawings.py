from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations import draw_picture


def test_the_generator_decides_everything():
    first, again, other = (draw_picture(96, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pictures_have_flat_ground_and_sharp_edges():
    pictures = [draw_picture(128, np.random.default_rng(seed)).astype(int).mean(2) for seed in range(40)]
    steps = [np.abs(np.diff(each, axis=1)) for each in pictures]
    assert np.mean([(each == 0).mean() for each in steps]) > 0.5
    assert np.mean([each.max() > 80 for each in steps]) > 0.9


def test_fonts_may_be_named():
    matplotlib = pytest.importorskip("matplotlib")
    font = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSerif.ttf"
    pairs = [(draw_picture(64, np.random.default_rng(3), fonts), fonts) for fonts in ((), (font,))]
    assert not np.array_equal(pairs[0][0], pairs[1][0])


def test_tiny_pictures():
    assert draw_picture(1, np.random.default_rng(0)).shape == (1, 1, 3)
