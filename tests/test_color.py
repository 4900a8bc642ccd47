from __future__ import annotations

import numpy as np
import torch
from basicsr.utils import bgr2ycbcr
from basicsr.utils.color_util import rgb2ycbcr_pt

from semanir_plugin.color import luma_bgr, luma_rgb
from semanir_plugin.pixels import to_float


def test_y_of_8_bit_colours_is_basicsrs_to_the_bit():
    steps = np.arange(0, 256, 3, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(86, -1, 3)
    assert np.array_equal(luma_bgr(to_float(colours)).round(), bgr2ycbcr(colours, y_only=True))
    assert np.array_equal((luma_bgr(to_float(colours)) / 255).astype(np.float32), bgr2ycbcr(to_float(colours), True))


def test_y_of_tensors_is_basicsrs():
    images = torch.rand(2, 3, 9, 14)
    torch.testing.assert_close(luma_rgb(images), rgb2ycbcr_pt(images, y_only=True), rtol=2e-7, atol=0)


def test_black_white_and_the_order_of_channels():
    red = np.array([0.0, 0.0, 1.0])
    assert luma_bgr(np.zeros(3)) == 16
    assert luma_bgr(np.ones(3)) == 235
    assert luma_bgr(red) == 81.481
    assert luma_rgb(torch.tensor([1.0, 0, 0], dtype=torch.float64).view(1, 3, 1, 1)).item() == 81.481 / 255
