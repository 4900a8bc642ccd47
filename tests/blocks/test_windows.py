from __future__ import annotations

import pytest
import torch

from semanir_plugin.blocks.windows import shift_along, shifted_regions, window_partition, window_reverse


@pytest.mark.parametrize("shift", [(0, 0), (2, 2), (0, 2)])
def test_window_reverse_undoes_window_partition(shift):
    x = torch.randn(2, 8, 12, 3)
    windows = window_partition(x, 4, shift)
    assert windows.shape == (2 * 2 * 3, 16, 3)
    assert torch.equal(window_reverse(windows, 4, 8, 12, shift), x)


def test_a_window_is_a_square_of_neighbours():
    x = torch.arange(8 * 12).view(1, 8, 12, 1)
    assert window_partition(x, 4)[4, :, 0].tolist() == x[0, 4:8, 4:8, 0].flatten().tolist()


def test_regions_join_exactly_the_neighbours_before_the_shift():
    # Two tokens of a shifted window belong together iff they are less than a window apart in the image.
    height, width, size, shift = 8, 12, 4, (2, 2)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = window_partition(torch.stack([rows, columns], -1)[None], size, shift).unbind(-1)
    near = ((y[:, :, None] - y[:, None]).abs() < size) & ((x[:, :, None] - x[:, None]).abs() < size)
    regions = shifted_regions(height, width, size, shift, torch.device("cpu"))
    assert torch.equal(regions[:, :, None] == regions[:, None], near)


@pytest.mark.parametrize(("length", "shift"), [(8, 0), (16, 4), (24, 4)])
def test_a_single_window_is_not_shifted(length, shift):
    assert shift_along(length, 8, 4) == shift
    assert shift_along(length, 8, 0) == 0
