from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils.matlab_functions import imresize as basicsr_imresize

from semanir_plugin.archs.bicubic_arch import Bicubic
from semanir_plugin.degradations import downsample_bicubic, imresize, imresize_uint8, least_side
from semanir_plugin.degradations.bicubic import bicubic_taps
from semanir_plugin.pixels import to_float, to_uint8

# BasicSR computes weights in fp32, which shows where a third is not exact.
TOLERANCE = {2: 1e-6, 3: 1e-4, 4: 1e-6, 8: 1e-6, 1 / 2: 1e-6, 1 / 3: 1e-6, 1 / 4: 1e-6, 1: 0}


@pytest.mark.parametrize("scale", TOLERANCE)
@pytest.mark.parametrize("shape", [(65, 87, 3), (97, 33, 1), (43, 64)])
def test_resizing_is_basicsrs(scale, shape):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    resized = imresize(image, scale)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, basicsr_imresize(image, scale), rtol=0, atol=TOLERANCE[scale])


@pytest.mark.parametrize("scale", [2, 3, 4, 1 / 2, 1 / 3, 1 / 4])
def test_photographs_are_basicsrs_once_rounded(photos, scale):
    """But for ties between two integers, which the order of an fp32 sum decides."""
    pixels = cv2.imread(str(photos["coffee.png"]))[: 360 if scale < 1 else 60, : 480 if scale < 1 else 96]
    ours, theirs = (to_uint8(resize(to_float(pixels), scale)) for resize in (imresize, basicsr_imresize))
    differences = np.abs(ours.astype(int) - theirs)
    assert differences.max() <= 1
    assert (differences > 0).mean() <= 2e-5


def naive(line, scale):
    """Resize a line pixel by pixel, in float64."""
    wide, stretch = np.pad(line.astype(float), 20, mode="symmetric"), max(1, 1 / scale)
    resized = []
    for pixel in range(math.ceil(len(line) * scale)):
        x = np.abs((pixel + 0.5) / scale - 0.5 - np.arange(-20, len(line) + 20)) / stretch
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights = np.where(x <= 1, near, np.where(x <= 2, far, 0))
        resized.append(wide @ weights / weights.sum())
    return np.array(resized)


@pytest.mark.parametrize("scale", [0.21, 1 / 3, 0.7, 1, 1.3, 2.5])
@pytest.mark.parametrize("length", [1, 3, 41])
def test_any_scale_and_lines_shorter_than_the_kernel(scale, length):
    line = np.random.default_rng(0).random(length, dtype=np.float32)
    np.testing.assert_allclose(imresize(line[:, None], scale)[:, 0], naive(line, scale), rtol=0, atol=1e-6)
    np.testing.assert_allclose(imresize(line[None], scale)[0], naive(line, scale), rtol=0, atol=1e-6)


def naive_uint8(image, scale):
    """Resize 8 bit by lines, down the columns first, each line rounded to 8 bit with ties upwards."""
    for axis in (0, 1):
        lines = np.apply_along_axis(naive, axis, image, scale)
        image = np.array([min(max(math.floor(value + 0.5), 0), 255) for value in lines.flat]).reshape(lines.shape)
    return image


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 1 / 8])
def test_8_bit_is_rounded_after_each_pass(photos, scale):
    pixels = cv2.imread(str(photos["chelsea.png"]))[100:148, 140:236]
    pixels[:, 50:] = np.where(pixels[:, 50:] > 128, 255, 0)  # edges, at which both passes overshoot
    resized = imresize_uint8(pixels, scale)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, naive_uint8(pixels, scale))
    assert (resized != to_uint8(imresize(to_float(pixels), scale))).mean() > 0.05, "rounded once is another image"


@pytest.mark.parametrize("upscale", [1, 2, 3, 4])
def test_the_architecture_enlarges_alike(upscale):
    image = np.random.default_rng(0).random((23, 38, 3), dtype=np.float32)
    enlarged = Bicubic(upscale=upscale)(torch.from_numpy(image.transpose(2, 0, 1)[None]))
    np.testing.assert_allclose(enlarged[0].permute(1, 2, 0), imresize(image, upscale), rtol=0, atol=1e-6)
    assert Bicubic(upscale=2)(torch.rand(2, 1, 5, 7).half()).dtype == torch.half


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_downsampling_is_matlabs_rounded_to_8_bit(scale):
    image = np.zeros((3 * scale, 4 * scale, 3), np.float32)
    image[:, 2 * scale :] = 1  # an edge, at which bicubic overshoots
    lr = downsample_bicubic(image, scale, "basicsr")
    exact = basicsr_imresize(image, 1 / scale)
    assert lr.dtype == np.uint8
    assert lr.shape == (3, 4, 3)
    assert exact.min() < 0
    assert exact.max() > 1
    np.testing.assert_allclose(lr / 255, np.clip(exact, 0, 1), atol=0.501 / 255)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_of_the_least_side_the_kernel_sees_each_pixel_twice(scale):
    side = least_side(scale)
    assert downsample_bicubic(np.full((side, side, 3), 0.5, np.float32), scale).shape == (2, 2, 3)
    _, sources = bicubic_taps(side, 1 / scale)
    assert all(np.bincount(column).max() <= 2 for column in sources.T)
