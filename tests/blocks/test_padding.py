from __future__ import annotations

import numpy as np
import pytest
import torch

from semanir_plugin.blocks import SizeRequirements, crop_to, pad_to_multiple


@pytest.mark.parametrize(("height", "width", "multiple"), [(13, 8, 8), (37, 53, 32), (3, 2, 16), (1, 5, 4), (8, 8, 8)])
def test_padding_reflects_as_numpy_does(height, width, multiple):
    x = torch.arange(2 * height * width).float().view(1, 2, height, width)
    padded = pad_to_multiple(x, multiple)
    extra = [(0, size - before) for size, before in zip(padded.shape, x.shape, strict=True)]
    assert all(size % multiple == 0 for size in padded.shape[2:])
    assert max(after for _, after in extra) < multiple
    np.testing.assert_array_equal(padded.numpy(), np.pad(x.numpy(), extra, mode="reflect"))
    assert torch.equal(crop_to(padded, height, width), x)


def test_too_small_an_image_is_named():
    with pytest.raises(ValueError, match="at least 8 x 8 pixels, got 7 x 9"):
        SizeRequirements(minimum=8).check(torch.zeros(1, 3, 7, 9))
