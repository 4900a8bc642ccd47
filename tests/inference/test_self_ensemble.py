from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from semanir_plugin.inference.self_ensemble import restore_eight_ways


@pytest.fixture(scope="module")
def photo(photos) -> torch.Tensor:
    image = cv2.imread(str(photos["chelsea.png"]))[50:87, 120:181, ::-1]
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().contiguous() / 255


def equivariant(x):
    """A blur and an enlargement that commute with flips and turns."""
    kernel = torch.tensor([[1.0, 2, 1], [2, 5, 2], [1, 2, 1]]).expand(3, 1, 3, 3) / 17
    return nn.functional.conv2d(x, kernel, padding=1, groups=3).repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_an_equivariant_network_is_not_changed(photo):
    torch.testing.assert_close(restore_eight_ways(equivariant, photo), equivariant(photo), rtol=0, atol=1e-6)


def test_equal_results_have_themselves_as_mean(photo):
    assert torch.equal(restore_eight_ways(lambda x: x * 0.3, photo), photo * 0.3)


def test_it_is_the_mean_over_all_flips_and_quarter_turns(photo):
    net = nn.Conv2d(3, 3, 3, padding=1)
    with torch.no_grad():
        expected = []
        for turns in range(4):
            for flipped in (False, True):
                x = photo.flip(-1) if flipped else photo
                y = torch.rot90(net(torch.rot90(x, turns, (-2, -1))), -turns, (-2, -1))
                expected.append(y.flip(-1) if flipped else y)
    result = restore_eight_ways(net, photo)
    torch.testing.assert_close(result, torch.stack(expected).mean(0), rtol=0, atol=1e-6)
    assert not torch.allclose(result, net(photo), atol=1e-3)
    assert not result.requires_grad


def test_the_network_sees_eight_different_images_that_it_may_view(photo):
    seen = []

    def record(x):
        x.view(-1)
        seen.append(x.numpy().tobytes() + np.array(x.shape).tobytes())
        return x

    restore_eight_ways(record, photo)
    assert len(seen) == len(set(seen)) == 8
