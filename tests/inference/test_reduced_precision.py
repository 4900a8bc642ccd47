from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import semanir_plugin
from semanir_plugin.inference.reduced_precision import reduced_precision


def levels(network, precision):
    ramp = np.broadcast_to(np.linspace(30_000, 34_000, 64).astype(np.uint16)[None, :, None], (64, 64, 3))
    return len(np.unique(network.restore(np.ascontiguousarray(ramp), precision=precision)))


def test_16_bit_stay_as_fine_in_bf16_as_in_fp32():
    network = semanir_plugin.load("semanir-mini-x2")
    assert levels(network, "bf16") > 0.8 * levels(network, "fp32") > 2000


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)

    def forward(self, x):
        return self.last(self.first(x))


def test_only_the_last_layer_is_in_fp32():
    network, seen = Chain(), {}
    network.first.register_forward_hook(lambda _, __, output: seen.update(first=output.dtype))
    with torch.no_grad(), reduced_precision(network, "cpu", torch.bfloat16):
        output = network(torch.zeros(1, 3, 8, 8))
    assert (seen["first"], output.dtype) == (torch.bfloat16, torch.float32)


def test_the_network_is_as_before_afterwards():
    network = Chain()
    with pytest.raises(RuntimeError, match="stop"), reduced_precision(network, "cpu", torch.bfloat16):
        raise RuntimeError("stop")
    assert "forward" not in vars(network.last)


def test_a_network_without_such_a_layer_is_autocast_whole():
    with reduced_precision(nn.Identity(), "cpu", torch.bfloat16):
        assert torch.is_autocast_enabled("cpu")
