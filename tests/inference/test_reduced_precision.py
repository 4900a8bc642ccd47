from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import semanir_plugin
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import build_network
from semanir_plugin.inference.reduced_precision import reduced_precision


def levels(network, precision):
    ramp = np.broadcast_to(np.linspace(30_000, 34_000, 64).astype(np.uint16)[None, :, None], (64, 64, 3))
    return len(np.unique(network.restore(np.ascontiguousarray(ramp), precision=precision)))


def test_16_bit_stay_as_fine_in_bf16_as_in_fp32():
    network = semanir_plugin.load("semanir-mini-x2")
    assert levels(network, "bf16") > 0.8 * levels(network, "fp32") > 2000


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_prompts_are_chosen_alike(precision, tmp_path):
    options = {"type": "SemanIRUNet", "embed_dim": 8, "head_dim": 4, "depths": [1, 1], "refinement_depth": 1}
    network = build_network(options | {"window_sizes": [8, 4], "topk": 9, "prompts": 3}, "options")
    for parameter in network.prompts.parameters():
        parameter.data.mul_(10)
    network.conv_last.weight.data.mul_(100)
    save_weights(tmp_path / "net.safetensors", network, options | {"window_sizes": [8, 4], "topk": 9, "prompts": 3})
    restorer, image = semanir_plugin.load(tmp_path / "net.safetensors", device="cpu"), torch.rand(1, 3, 24, 40)
    expected = restorer.restore(image)
    assert (expected - image).abs().mean() > 0.01
    psnr = -10 * torch.log10((restorer.restore(image, precision=precision) - expected).square().mean())
    assert 40 < psnr < 120


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
