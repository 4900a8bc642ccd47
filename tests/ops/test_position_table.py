from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops.common.position_table import check_bias, dense_bias, is_table


@pytest.mark.parametrize("w", [1, 2, 5])
def test_against_its_definition(w):
    table = torch.randn(3, 2 * w - 1, 2 * w - 1)
    dense = dense_bias(table, w * w)
    for i in range(w * w):
        for j in range(w * w):
            entry = table[:, i // w - j // w + w - 1, i % w - j % w + w - 1]
            torch.testing.assert_close(dense[:, i, j], entry)


def test_a_dense_bias_stays():
    bias = torch.randn(2, 9, 9)
    assert not is_table(bias, 9)
    assert dense_bias(bias, 9) is bias
    check_bias(bias, 2, 9)
    check_bias(torch.zeros(2, 5, 5), 2, 9)


@pytest.mark.parametrize("shape", [(2, 9, 8), (2, 4, 4), (3, 9, 9), (3, 5, 5), (9, 9)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(H, N, N\) = \(2, 9, 9\) or \(H, 2w - 1, 2w - 1\) = \(2, 5, 5\), got"):
        check_bias(torch.zeros(shape), 2, 9)
    with pytest.raises(ValueError, match=r"= \(2, 8, 8\), got"):
        check_bias(torch.zeros(2, 5, 5), 2, 8)
