from __future__ import annotations

import pytest
import torch
from basicsr.archs import build_network

from semanir_plugin.archs import NetworkDescriptor, describe
from semanir_plugin.blocks import SizeRequirements

TINY = {"embed_dim": 8, "depths": [1], "num_heads": [2]}
AST = {"type": "AST", "embed_dim": 4, "depths": [1] * 3, "num_heads": [1] * 3, "img_size": 32, "dd_in": 1}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_block": 1, "num_feat": 8, "num_grow_ch": 4}
SWINIR = {"type": "SwinIR", **TINY, "in_chans": 1, "window_size": 7, "img_size": 14, "upscale": 3}
COMPACT = {"type": "SRVGGNetCompact", "num_in_ch": 1, "num_out_ch": 1, "num_conv": 1, "upscale": 2}
MIXED = {"type": "MixedArch", "base": {**RRDB, "scale": 2}, "mix": [{"where": "body.0", "what": "frfn"}]}


@pytest.mark.parametrize(
    ("options", "scale", "channels", "multiple"),
    [
        ({"type": "SemanIR", **TINY, "in_chans": 1, "window_size": 16, "upscale": 2}, 2, (1, 1), 16),
        ({"type": "SemanIR", **TINY, "window_size": 8, "upscale": 1, "unshuffle": 2}, 1, (3, 3), 16),
        (AST, 1, (1, 3), 16),
        ({**SWINIR, "upsampler": "pixelshuffledirect"}, 3, (1, 1), 7),
        ({**RRDB, "scale": 4}, 4, (3, 3), 1),
        ({**RRDB, "scale": 2}, 2, (3, 3), 2),
        ({**RRDB, "scale": 1}, 1, (3, 3), 4),
        (COMPACT, 2, (1, 1), 1),
        ({"type": "Bicubic", "upscale": 3}, 3, (3, 3), 1),
        (MIXED, 2, (3, 3), 2),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("with_options", [True, False])
def test_what_networks_take_and_give(options, scale, channels, multiple, with_options):
    net = build_network(dict(options)).train()
    told = describe(net, options if with_options else None)
    assert (told.scale, told.size.multiple_of, told.size.square) == (scale, multiple, False)
    assert (told.in_channels, told.out_channels) == channels
    assert net.training


def test_what_a_network_says_of_itself_counts():
    net = torch.nn.Identity()
    net.descriptor = NetworkDescriptor(scale=3, topk=(4,))
    assert describe(net) is net.descriptor


class OnlySquares(torch.nn.Module):
    def forward(self, x):
        assert x.shape[-1] == x.shape[-2]
        return x.view(*x.shape[:-2], -1, 4, x.shape[-1]).flatten(-3, -2)


def test_networks_of_squares_are_seen():
    assert describe(OnlySquares()).size == SizeRequirements(multiple_of=4, square=True)


def test_a_network_that_restores_nothing_is_told():
    with pytest.raises(ValueError, match="Linear restores no image that was tried: RuntimeError: mat1"):
        describe(torch.nn.Linear(5, 5))
    with pytest.raises(ValueError, match="17 x 19 pixels became 8 x 9, no whole multiple"):
        describe(torch.nn.AvgPool2d(2))
