from __future__ import annotations

import math

import pytest
import torch

from semanir_plugin.blocks import ContinuousPositionBias, FactorisedPositionBias
from semanir_plugin.blocks.position_bias import build_position_bias


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


@pytest.mark.parametrize("window", [1, 3, 8])
def test_scores_of_appended_features_are_those_with_the_dense_bias(window):
    bias = FactorisedPositionBias(window, 2, rank=5, hidden=7)
    q, k = (torch.randn(3, 2, window**2, 4) for _ in range(2))
    wide_q, wide_k, beside = bias.apply_to(q, k)
    assert beside is None
    assert wide_q.shape == wide_k.shape == (3, 2, window**2, 9)
    torch.testing.assert_close(wide_q @ wide_k.mT, q @ k.mT + bias())


def test_a_bias_of_low_rank_starts_small_and_can_be_a_wave_of_the_distance():
    bias = FactorisedPositionBias(8, 3, rank=4)
    assert torch.linalg.matrix_rank(bias()).tolist() == [4, 4, 4]
    assert 1e-3 < bias().std() < 0.1
    angles = math.pi * (torch.arange(64) // 8) / 8
    wanted = torch.cos(2 * (angles[:, None] - angles)).expand(3, -1, -1)
    optimizer = torch.optim.Adam(bias.parameters(), 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (bias() - wanted).square().mean().backward()
        optimizer.step()
    assert (bias() - wanted).square().mean() < 0.01 * wanted.square().mean()


def test_features_are_fp32_under_autocast_and_take_the_dtype_of_what_they_join():
    bias, q = FactorisedPositionBias(4, 2), torch.randn(1, 2, 16, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert bias.values().dtype == torch.float32
        assert [each.dtype for each in bias.apply_to(q, q)[:2]] == [torch.bfloat16] * 2
    assert set(bias.state_dict()) == {"inner", "outer"}


def test_unknown_biases_are_refused():
    with pytest.raises(ValueError, match=r"one of \['table', 'factorised'\], got 'dense'"):
        build_position_bias("dense", 8, 2)
