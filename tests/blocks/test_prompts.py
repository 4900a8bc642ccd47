from __future__ import annotations

import pytest
import torch

from semanir_plugin.blocks import DegradationPrompts
from semanir_plugin.blocks.prompts import modulate


def test_prompts_are_mixed_by_weights_that_add_up_to_one():
    prompts, x = DegradationPrompts(6, [4, 8], 3), torch.randn(2, 6, 5, 7)
    first, second = prompts(x)
    weights = prompts.weigh(x.mean((2, 3))).softmax(1)
    assert weights.sum(1).tolist() == pytest.approx([1, 1])
    assert (first.shape, second.shape) == ((2, 8), (2, 16))
    for mixed, each in ((first, prompts.prompts[0]), (second, prompts.prompts[1])):
        torch.testing.assert_close(mixed, (weights[..., None] * each).sum(1))


def test_what_is_seen_chooses_the_prompt():
    prompts = DegradationPrompts(2, [1], 2)
    with torch.no_grad():
        prompts.weigh.weight.copy_(100 * torch.eye(2))
        prompts.weigh.bias.zero_()
        prompts.prompts[0].copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    seen = torch.zeros(2, 2, 3, 3)
    seen[0, 0], seen[1, 1] = 1, 1
    (mixed,) = prompts(seen)
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_modulation_scales_and_shifts_channels():
    x = torch.randn(2, 3, 4, 5)
    modulation = torch.randn(2, 6)
    expected = x * (1 + modulation[:, :3, None, None]) + modulation[:, 3:, None, None]
    torch.testing.assert_close(modulate(x, modulation), expected)
    assert torch.equal(modulate(x, torch.zeros(2, 6)), x)
