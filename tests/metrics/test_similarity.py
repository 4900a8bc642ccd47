from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim
from skimage.metrics import structural_similarity

from semanir_plugin.degradations import compress_jpeg
from semanir_plugin.metrics import calculate_ssim_uniform7
from semanir_plugin.metrics.images import prepare
from semanir_plugin.metrics.similarity import gaussian_ssim, psnr


@pytest.fixture(params=["astronaut.png", "chelsea.png", "coffee.png"])
def pair(photos, request):
    photo = cv2.imread(str(photos[request.param]))[:161, :186]
    return compress_jpeg(photo, 20), photo


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("y", [False, True])
def test_psnr_is_basicsrs_to_the_bit_and_ssim_to_twelve_digits(pair, y, border):
    images = prepare(*pair, crop_border=border, input_order="HWC", test_y_channel=y)
    assert psnr(*images) == calculate_psnr(*pair, border, test_y_channel=y)
    assert gaussian_ssim(*images) == pytest.approx(calculate_ssim(*pair, border, test_y_channel=y), rel=1e-12)


def test_ssim_of_uniform_windows_is_scikit_images(pair):
    images = [image.astype(np.float64) for image in pair]
    expected = structural_similarity(*images, win_size=7, data_range=255, channel_axis=-1)
    assert calculate_ssim_uniform7(*pair, 0) == pytest.approx(expected, rel=1e-12)


def test_equal_images(pair):
    assert psnr(pair[0], pair[0]) == math.inf
    assert gaussian_ssim(pair[0], pair[0]) == pytest.approx(1, rel=1e-12)


def test_ssim_needs_a_window():
    assert gaussian_ssim(np.zeros((11, 11, 1)), np.zeros((11, 11, 1))) == 1
    with pytest.raises(ValueError, match="SSIM needs images of at least 11 x 11 pixels, not 10 x 30"):
        gaussian_ssim(np.zeros((10, 30, 1)), np.zeros((10, 30, 1)))
