from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from semanir_plugin.degradations import resize

PILLOW = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@pytest.fixture
def image():
    return np.random.default_rng(0).random((40, 31, 3), dtype=np.float32)


@pytest.mark.parametrize("size", [(10, 8), (40, 31), (17, 50), (3, 2), (1, 1)])
@pytest.mark.parametrize("kind", PILLOW)
def test_the_result_is_pillows(image, kind, size):
    channels = [Image.fromarray(image[..., each]).resize(size[::-1], PILLOW[kind]) for each in range(3)]
    np.testing.assert_allclose(resize(image, size, kind), np.stack(channels, -1), atol=1e-5)


def test_without_antialiasing_it_is_opencvs(image):
    for size in ((13, 9), (80, 45)):
        expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(resize(image, size, "bilinear", antialias=False), expected, atol=1e-5)
    assert np.abs(resize(image, (13, 9), "bilinear") - resize(image, (13, 9), "bilinear", antialias=False)).max() > 0.1
