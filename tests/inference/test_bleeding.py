from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.inference import bleeding
from semanir_plugin.inference.bleeding import bleed_colours


def nearest_visible(alpha, row, column):
    """Distance to the nearest visible pixel, and all pixels that are as near."""
    rows, columns = np.nonzero(alpha)
    distances = np.hypot(rows - row, columns - column)
    near = distances <= distances.min() + 0.15  # OpenCV's distances of 5 x 5 steps err by some percent
    return distances.min(), list(zip(rows[near], columns[near], strict=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("rows", [3, 7, 256])
def test_hidden_pixels_have_the_colour_of_the_nearest_visible_one(dtype, rows, monkeypatch):
    monkeypatch.setattr(bleeding, "ROWS", rows)
    monkeypatch.setattr(bleeding, "REACH", 6)
    numbers = np.random.default_rng(0)
    pixels = (numbers.random((24, 19, 3)) * (1 if dtype == np.float32 else 200)).astype(dtype)
    alpha = np.where(numbers.random((24, 19)) < 0.01, numbers.integers(1, 255, (24, 19)), 0).astype(np.uint8)
    filled = bleed_colours(pixels, alpha)
    far = 0
    for row, column in np.ndindex(alpha.shape):
        distance, near = nearest_visible(alpha, row, column)
        if alpha[row, column] or distance > 6.5:
            far += not alpha[row, column]
            np.testing.assert_array_equal(filled[row, column], pixels[row, column])
        elif distance < 5.5:
            assert any((filled[row, column] == pixels[each]).all() for each in near), (row, column)
    assert far


@pytest.mark.parametrize("alpha", [np.full((4, 5), 9), np.zeros((4, 5))])
def test_what_is_visible_throughout_or_nowhere_stays(alpha):
    pixels = np.zeros((4, 5, 1), np.uint8)
    assert bleed_colours(pixels, alpha.astype(np.uint8)) is pixels


def test_the_given_pixels_are_left_alone():
    pixels = np.zeros((4, 5, 1), np.uint8)
    pixels[1, 1] = 7
    alpha = np.zeros((4, 5), np.uint8)
    alpha[1, 1] = 1
    assert (bleed_colours(pixels, alpha) == 7).all()
    assert pixels.sum() == 7


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_that_can_hardly_be_seen_are_hidden_too(dtype):
    most = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = np.zeros((4, 5, 1), np.uint8)
    pixels[1, 1] = 7
    alpha = np.zeros((4, 5), dtype)
    alpha[1, 1], alpha[1, 2] = most, dtype(most / 250)
    assert (bleed_colours(pixels, alpha) == 7).all()
