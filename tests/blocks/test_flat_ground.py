from __future__ import annotations

import pytest
import torch

from semanir_plugin.blocks import keep_flat_ground


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_only_ground_without_any_detail_stays(scale):
    image = torch.full((1, 3, 7, 9), 0.7)
    image[0, 1, 2, 3] += 1 / 255
    restored = torch.rand(1, 3, 7 * scale, 9 * scale)
    out = keep_flat_ground(restored, image, scale)
    near = torch.zeros(7, 9, dtype=torch.bool)
    near[1:4, 2:5] = True  # what touches the pixel that differs
    near = near.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    assert torch.equal(out[..., near], restored[..., near])
    assert (out[..., ~near] == image[0, 0, 0, 0]).all()


def test_every_pixel_for_itself():
    image = torch.stack([torch.zeros(3, 6, 6), torch.rand(3, 6, 6)])
    restored = torch.rand(2, 3, 6, 6)
    out = keep_flat_ground(restored, image, 1)
    assert torch.equal(out[0], image[0])
    assert torch.equal(out[1], restored[1])
