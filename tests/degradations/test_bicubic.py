from __future__ import annotations

import numpy as np
import pytest
from basicsr.utils.matlab_functions import imresize

from semanir_plugin.degradations import downsample_bicubic, least_side


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_downsampling_is_matlabs_rounded_to_8_bit(scale):
    image = np.zeros((3 * scale, 4 * scale, 3), np.float32)
    image[:, 2 * scale :] = 1  # an edge, at which bicubic overshoots
    lr = downsample_bicubic(image, scale)
    exact = imresize(image, 1 / scale)
    assert lr.dtype == np.uint8
    assert lr.shape == (3, 4, 3)
    assert exact.min() < 0
    assert exact.max() > 1
    np.testing.assert_allclose(lr / 255, np.clip(exact, 0, 1), atol=0.501 / 255)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_least_side_is_the_least(scale):
    side = least_side(scale)
    assert downsample_bicubic(np.full((side, side, 3), 0.5, np.float32), scale).shape == (2, 2, 3)
    with pytest.raises(RuntimeError):
        downsample_bicubic(np.full((scale, scale, 3), 0.5, np.float32), scale)
