from __future__ import annotations

import pytest
import torch
from basicsr.archs import build_network

from semanir_plugin.archs import describe
from semanir_plugin.errors import UserError
from semanir_plugin.inference.arch_recognition import recognize
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.restorer import Restorer

SWINIR = {"type": "SwinIR", "embed_dim": 12, "depths": [2, 1], "num_heads": [2, 3], "mlp_ratio": 2, "window_size": 8}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 2, "num_grow_ch": 4}
EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 3}
COMPACT = {"type": "SRVGGNetCompact", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_conv": 4}


@pytest.mark.parametrize(
    "options",
    [
        {**SWINIR, "upscale": 3, "img_size": 48, "upsampler": "pixelshuffledirect"},
        {**SWINIR, "upscale": 8, "img_size": 16, "upsampler": "pixelshuffle", "resi_connection": "3conv"},
        {**SWINIR, "upscale": 4, "img_size": 8, "upsampler": "nearest+conv", "qkv_bias": False, "patch_norm": False},
        {**SWINIR, "upscale": 1, "window_size": 7, "img_size": 28, "img_range": 255.0, "in_chans": 1},
        *({**RRDB, "scale": scale} for scale in (1, 2, 4)),
        *({**EDSR, "upscale": scale} for scale in (2, 3, 4)),
        {**EDSR, "num_feat": 256, "num_block": 1, "res_scale": 0.1},
        *({**COMPACT, "upscale": scale} for scale in (1, 3, 4)),
    ],
    ids=lambda options: f"{options['type']}-{options.get('upscale', options.get('scale'))}",
)
def test_a_file_of_bare_weights_gives_the_same_network(options, tmp_path):
    network = build_network(dict(options)).eval()
    torch.save({"params_ema": network.state_dict()}, tmp_path / "net.pth")
    loaded = load(tmp_path / "net.pth", device="cpu")
    image = torch.rand(1, loaded.descriptor.in_channels, 56, 56)
    with torch.no_grad():
        assert torch.equal(loaded.module(image), network(image))


def test_others_are_not_taken_for_them(tmp_path):
    residual = build_network({"type": "MSRResNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1})
    leaky = build_network({**COMPACT, "act_type": "leakyrelu"})
    for network in (residual, leaky, torch.nn.Conv2d(3, 3, 3)):
        assert recognize(network.state_dict()) is None
    torch.save(residual.state_dict(), tmp_path / "net.pth")
    with pytest.raises(UserError, match="does not say what network it is of; name the option file"):
        load(tmp_path / "net.pth")


def test_damaged_shapes_are_none_of_them():
    state = build_network({**RRDB, "scale": 4}).state_dict()
    state["conv_first.weight"] = torch.zeros(8, 7, 3, 3)
    assert recognize(state) is None
    state["conv_last.weight"] = torch.tensor(1.0)
    assert recognize(state) is None


@pytest.mark.parametrize(("scale", "size"), [(1, (30, 41)), (2, (31, 42)), (4, (5, 3))])
def test_rrdbnets_restore_sizes_that_they_do_not_take(scale, size):
    options = {**RRDB, "scale": scale}
    network = build_network(dict(options)).eval()
    restorer = Restorer(network, options, describe(network), torch.device("cpu"))
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        padded = torch.nn.functional.pad(image, (0, -size[1] % 4, 0, -size[0] % 4), mode="reflect")
        expected = network(padded)[..., : scale * size[0], : scale * size[1]].clamp(0, 1)
    for tile in (None, 64):
        restored = restorer.restore(image, tile=tile)
        assert restored.shape == (1, 3, scale * size[0], scale * size[1])
        if scale == 1:  # the others are padded by less, which reaches as far as the network sees
            torch.testing.assert_close(restored, expected)


def test_a_network_within_a_wrapper_is_recognised(tmp_path):
    network = build_network({**EDSR, "upscale": 2})
    torch.save({"model": {f"generator.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "x.pth")
    loaded = load(tmp_path / "x.pth", device="cpu").module
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
