from __future__ import annotations

import math

import pytest
import torch

from semanir_plugin.blocks import ContinuousPositionBias


@pytest.mark.parametrize("window", [1, 3, 8])
def test_bias_of_every_pair_is_the_mlp_of_their_offset(window):
    bias = ContinuousPositionBias(window, 2, hidden=16)
    dense = bias()
    assert dense.shape == (2, window**2, window**2)

    def log_spaced(offset):
        c = 8 * offset / max(window - 1, 1)
        return math.copysign(math.log2(1 + abs(c)) / 3, c)

    for query in range(window**2):
        for key in range(window**2):
            offset = [query // window - key // window, query % window - key % window]
            expected = 16 * torch.sigmoid(bias.mlp(torch.tensor([log_spaced(o) for o in offset])))
            torch.testing.assert_close(dense[:, query, key], expected)


def test_coordinates_stay_out_of_checkpoints():
    assert set(ContinuousPositionBias(4, 2).state_dict()) == {"mlp.0.weight", "mlp.0.bias", "mlp.2.weight"}
