from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations import demosaic_malvar, mosaic_rggb


def random_image(height, width):
    return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


def test_the_mosaic_is_rggb():
    image = random_image(5, 4)
    blue, green, red = np.moveaxis(image, -1, 0)
    mosaic = mosaic_rggb(image)
    for y in range(5):
        for x in range(4):
            expected = {(0, 0): red, (0, 1): green, (1, 0): green, (1, 1): blue}[y % 2, x % 2]
            assert mosaic[y, x] == expected[y, x]


def interpolate_as_published(mosaic):
    """The equations of the paper: bilinear, and a correction by the Laplacian of the colour that is there."""
    height, width = mosaic.shape
    at = np.pad(mosaic.astype(np.float64), 2, mode="reflect")
    image = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            v = at[y : y + 5, x : x + 5]
            middle = v[2, 2]
            cross = (v[1, 2] + v[3, 2] + v[2, 1] + v[2, 3]) / 4
            corners = (v[1, 1] + v[1, 3] + v[3, 1] + v[3, 3]) / 4
            far = (v[0, 2] + v[4, 2] + v[2, 0] + v[2, 4]) / 4
            along_row = (v[2, 1] + v[2, 3]) / 2
            along_column = (v[1, 2] + v[3, 2]) / 2
            of_row = middle - (4 * corners + v[2, 0] + v[2, 4] - (v[0, 2] + v[4, 2]) / 2) / 5
            of_column = middle - (4 * corners + v[0, 2] + v[4, 2] - (v[2, 0] + v[2, 4]) / 2) / 5
            horizontal, vertical = along_row + 5 / 8 * of_row, along_column + 5 / 8 * of_column
            green, opposite = cross + 1 / 2 * (middle - far), corners + 3 / 4 * (middle - far)
            image[y, x] = {
                (0, 0): (opposite, green, middle),
                (0, 1): (vertical, middle, horizontal),
                (1, 0): (horizontal, middle, vertical),
                (1, 1): (middle, green, opposite),
            }[y % 2, x % 2]
    return image


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (6, 11), (3, 3)])
def test_interpolation_follows_the_paper(size):
    mosaic = mosaic_rggb(random_image(*size))
    image = demosaic_malvar(mosaic)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, interpolate_as_published(mosaic), atol=1e-6)


def test_what_was_measured_is_kept():
    mosaic = mosaic_rggb(random_image(9, 7))
    np.testing.assert_array_equal(mosaic_rggb(demosaic_malvar(mosaic)), mosaic)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 2), (2, 1)])
def test_images_smaller_than_the_filters(size):
    image = demosaic_malvar(mosaic_rggb(np.full((*size, 3), 0.5, np.float32)))
    assert image.shape == (*size, 3)
    np.testing.assert_allclose(image, 0.5, atol=1e-6)
