"""A checkpoint may only ask for networks from image to image."""

from __future__ import annotations

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference.loading import build_network
from semanir_plugin.inference.nameable_archs import IMAGE_TO_IMAGE, check_network

OF_BASICSR = {name: arch for name, arch in ARCH_REGISTRY if arch.__module__.startswith("basicsr.")}
SMALL = {
    "ECBSR": {"num_in_ch": 3, "num_out_ch": 3, "num_block": 1, "num_channel": 4, "with_idt": False}
    | {"act_type": "relu", "scale": 2},
    "EDSR": {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1, "upscale": 2},
    "MSRResNet": {"num_feat": 4, "num_block": 1, "upscale": 2},
    "RCAN": {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_group": 1, "num_block": 1, "upscale": 2},
    "RIDNet": {"in_channels": 3, "mid_channels": 16, "out_channels": 3, "num_block": 1},
    "RRDBNet": {"num_in_ch": 3, "num_out_ch": 3, "scale": 2, "num_feat": 4, "num_block": 1, "num_grow_ch": 2},
    "SRVGGNetCompact": {"num_feat": 4, "num_conv": 1, "upscale": 2},
    "SwinIR": {"img_size": 16, "embed_dim": 6, "depths": [1], "num_heads": [1], "window_size": 8},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_those_that_may_be_named_make_images_of_images(name):
    check_network({"type": name, **SMALL[name]}, "x.pth")
    out = build_network({"type": name, **SMALL[name]}, "x.pth").eval()(torch.rand(1, 3, 16, 16))
    assert out.shape[:2] == (1, 3)


def test_the_list_is_of_basicsr_and_tried_here():
    assert set(SMALL) == IMAGE_TO_IMAGE
    assert {arch.__name__ for arch in OF_BASICSR.values()} >= IMAGE_TO_IMAGE


@pytest.mark.parametrize("name", [name for name, arch in OF_BASICSR.items() if arch.__name__ not in IMAGE_TO_IMAGE])
@pytest.mark.parametrize("wrap", [lambda own: own, lambda own: {"type": "MixedArch", "base": own, "mix": []}])
def test_others_of_basicsr_are_refused(name, wrap):
    with pytest.raises(UserError, match=f"^x.pth: asks for {name}; of BasicSR's networks"):
        check_network(wrap({"type": name}), "x.pth")


def test_options_that_name_a_path_are_refused():
    with pytest.raises(UserError, match=r"would open a file \(load_path: a.pth\)"):
        check_network({"type": "SemanIR", "load_path": "a.pth"}, "x.pth")
    check_network({"type": "SemanIR", "drop_path": 0.1}, "x.pth")


def test_a_checkpoint_downloads_nothing(photos, capsys):
    options = {"type": "VGGFeatureExtractor", "layer_name_list": ["conv1_1"]}
    torch.save({"network_g": options, "params": {"w": torch.zeros(1)}}, "x.pth")
    assert main(["restore", str(photos["chelsea.png"]), "-o", "out.png", "--model", "x.pth"]) == 2
    assert "x.pth: asks for VGGFeatureExtractor" in capsys.readouterr().err
