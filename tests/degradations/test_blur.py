from __future__ import annotations

import numpy as np
import pytest
from scipy.special import j1

from semanir_plugin.degradations import blur, gaussian_kernel, sinc_kernel


def test_a_gaussian_is_drawn_out_along_its_angle():
    def moments(kernel):
        y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
        return [(kernel * each).sum() for each in (x * x, y * y, x * y)]

    np.testing.assert_allclose(moments(gaussian_kernel(41, 3)), [9, 9, 0], atol=0.01)
    np.testing.assert_allclose(moments(gaussian_kernel(41, 4, 1)), [16, 1, 0], atol=0.01)
    np.testing.assert_allclose(moments(gaussian_kernel(41, 4, 1, np.pi / 2)), [1, 16, 0], atol=0.01)
    np.testing.assert_allclose(moments(gaussian_kernel(41, 4, 1, np.pi / 4)), [8.5, 8.5, 7.5], atol=0.01)


@pytest.mark.parametrize("cutoff", [0.5, 1.05, 3.14])
def test_a_sinc_is_that_of_scipy(cutoff):
    y, x = np.mgrid[:21, :21] - 10.0
    radius = np.hypot(x, y)
    with np.errstate(invalid="ignore"):
        expected = np.where(radius == 0, cutoff**2 / (4 * np.pi), cutoff * j1(cutoff * radius) / (2 * np.pi * radius))
    np.testing.assert_allclose(sinc_kernel(21, cutoff), expected / expected.sum(), atol=1e-7)


def test_blur_mirrors_and_keeps_the_shape():
    image = np.random.default_rng(0).random((9, 7, 3), dtype=np.float32)
    kernel = gaussian_kernel(5, 1, 2, 0.3)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1))
    np.testing.assert_allclose(blur(image, kernel), np.einsum("hwcij,ij->hwc", windows, kernel), atol=1e-6)
    assert blur(image[..., :1], kernel).shape == (9, 7, 1)
