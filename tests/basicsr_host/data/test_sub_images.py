from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.basicsr_host.data.sub_images import SubImages


@pytest.mark.parametrize(
    ("side", "step", "threshold", "size", "starts"),
    [
        (480, 240, 0, 960, [0, 240, 480]),
        (480, 240, 0, 961, [0, 240, 480, 481]),
        (480, 240, 10, 970, [0, 240, 480]),
        (480, 240, 10, 971, [0, 240, 480, 491]),
        (32, 32, 0, 60, [0, 28]),
        (32, 32, 0, 32, [0]),
        (32, 32, 0, 20, [0]),
        (32, 40, 0, 80, [0, 40, 48]),
    ],
)
def test_positions_along_a_side(side, step, threshold, size, starts):
    grid = SubImages(side=side, step=step, threshold=threshold)
    assert grid.corners(size, side) == [(start, 0) for start in starts]
    assert grid.corners(side, size) == [(0, start) for start in starts]


def test_positions_are_those_of_basicsr():
    """As its extract_subimages.py computes them, for images that are larger than the squares."""

    def spaces(size, crop, step, threshold):
        space = np.arange(0, size - crop + 1, step)
        return [*space, size - crop] if size - (space[-1] + crop) > threshold else list(space)

    for height, width in ((1356, 2040), (1404, 2040), (500, 481)):
        expected = [(y, x) for y in spaces(height, 480, 240, 0) for x in spaces(width, 480, 240, 0)]
        assert SubImages(side=480, step=240).corners(height, width) == expected
