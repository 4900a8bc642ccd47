from __future__ import annotations

import pytest
from basicsr.archs import build_network

from semanir_plugin.inference.requirements import input_channels, size_multiple

GRAY = {"in_chans": 1, "embed_dim": 8, "depths": [1], "num_heads": [2]}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "scale": 2, "num_block": 1, "num_feat": 8}


@pytest.mark.parametrize(
    ("options", "channels", "multiple"),
    [
        ({"type": "SemanIR", **GRAY, "window_size": 16}, 1, 16),
        ({"type": "SemanIR", **GRAY, "in_chans": 3, "window_size": 8}, 3, 8),
        ({"type": "AST", "embed_dim": 4, "depths": [1] * 3, "num_heads": [1] * 3, "img_size": 32, "dd_in": 1}, 1, 16),
        ({"type": "AST", "embed_dim": 4, "depths": [1] * 3, "num_heads": [1] * 3, "img_size": 32}, 3, 16),
        ({"type": "SwinIR", **GRAY, "window_size": 4, "img_size": 8}, 1, 4),
        (RRDB, 3, 1),
        ({"type": "Bicubic"}, 3, 1),
        ({"type": "MixedArch", "base": RRDB, "mix": [{"where": "body.0", "what": "frfn"}]}, 3, 1),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_what_a_network_takes(options, channels, multiple):
    net = build_network(options)
    assert input_channels(net, options) == channels
    assert size_multiple(net, options) == multiple


def test_without_options_the_first_convolution_tells():
    assert input_channels(build_network({"type": "SRVGGNetCompact", "num_in_ch": 2, "num_conv": 1})) == 2
