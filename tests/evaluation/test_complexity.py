"""Multiply-adds, counted by hand where that is possible."""

from __future__ import annotations

import sys

import pytest
import torch
from basicsr.archs import build_network
from mmengine.analysis import get_model_complexity_info
from torch import nn

from semanir_plugin.blocks.attention import AdaptiveSparseAttention, KeySemanticAttention
from semanir_plugin.evaluation.complexity import count_multiply_adds
from tests.archs.test_every_arch import TINY


def test_a_convolution_by_hand():
    net = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert count_multiply_adds(net, torch.rand(1, 3, 8, 11)) == 8 * 11 * 5 * 3 * 9
    assert count_multiply_adds(net, torch.rand(1, 3, 8, 11), multiple_of=4) == 8 * 12 * 5 * 3 * 9, "padding counts"


def test_a_plain_network_as_mmengine_counts_it():
    net = build_network({"type": "MSRResNet", "num_feat": 6, "num_block": 2, "upscale": 4}).eval()
    image = torch.rand(1, 3, 12, 17)
    expected = get_model_complexity_info(net, inputs=image, show_table=False, show_arch=False)["flops"]
    assert count_multiply_adds(net, image) == expected > 1e5


def builder():
    """Return `build_key_semantics` as the blocks have it now."""
    modules = [module for name, module in sys.modules.items() if name.startswith("semanir_plugin.blocks.")]
    return next(module.build_key_semantics for module in modules if hasattr(module, "build_key_semantics"))


class OneAttention(nn.Module):
    """Attention on two windows of 16 tokens."""

    def __init__(self, kind):
        super().__init__()
        self.attention = kind(12, 4, 3)

    def forward(self, x):
        windows = x.flatten(2).transpose(1, 2).reshape(2, 16, 12)
        if isinstance(self.attention, KeySemanticAttention):
            return self.attention(windows, builder()(windows, 5))
        return self.attention(windows)


def test_adaptive_sparse_attention_by_hand():
    projections = 2 * 16 * (12 * 36 + 12 * 12)
    attention = 2 * 3 * (2 * 16 * 16 * 4)  # windows, heads, scores and values
    count = count_multiply_adds(OneAttention(AdaptiveSparseAttention), torch.rand(1, 12, 4, 8))
    assert count == projections + attention


def test_key_semantic_attention_by_hand():
    bias = 7 * 7 * (2 * 512 + 512 * 3)  # the MLP that makes the table of relative positions
    projections = 2 * 16 * (12 * 36 + 12 * 12)
    dictionary = 2 * (16 * 16 * 12)
    attention = 2 * 3 * (2 * 16 * 5 * 4)  # of 5 keys
    count = count_multiply_adds(OneAttention(KeySemanticAttention), torch.rand(1, 12, 4, 8))
    assert count == bias + projections + dictionary + attention


def test_topk_and_dictionaries():
    net = build_network({"type": "SemanIR", **TINY["SemanIR"]}).eval()  # windows of 8, width 8, layers 2 and 1
    image = torch.rand(1, 3, 16, 24)
    counts = {k: count_multiply_adds(net, image, multiple_of=8, topk=k) for k in (4, 12, 64)}
    per_key = 3 * 6 * 2 * 2 * 64 * 4  # layers, windows, heads, scores and values, queries, width of a head
    assert counts[12] - counts[4] == 8 * per_key
    assert counts[64] - counts[12] == 52 * per_key
    assert count_multiply_adds(net, image, multiple_of=8) == counts[12]


@pytest.mark.parametrize("name", sorted(TINY))
def test_our_architectures_can_be_counted_and_are_left_as_they_were(name):
    torch.manual_seed(0)
    net = build_network({"type": name, **TINY[name]}).eval()
    image = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        before = net(image)
        assert count_multiply_adds(net, image) > 1e6
        assert torch.equal(net(image), before)


def test_fused_attention_by_hand():
    class Fused(nn.Module):
        def forward(self, x):
            q = x.flatten(2)  # (1, 3, 40)
            return nn.functional.scaled_dot_product_attention(q.transpose(1, 2), q.transpose(1, 2), q.transpose(1, 2))

    assert count_multiply_adds(Fused(), torch.rand(1, 3, 5, 8)) == 40 * 40 * 3 * 2
