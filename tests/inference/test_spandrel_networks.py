"""Networks of others, built by spandrel's classes and saved as people find them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import spandrel
import torch
from safetensors.torch import save_file
from spandrel.architectures import DAT, ESRGAN, HAT, SAFMN, NAFNet, SCUNet, SwinIR, Uformer

from semanir_plugin.blocks import SizeRequirements
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference import spandrel_networks
from semanir_plugin.inference.loading import describe_weights, load

WINDOWS = {"img_size": 16, "embed_dim": 12, "num_heads": [2]}
NETWORKS = {
    "HAT": lambda: HAT.HAT(**WINDOWS, window_size=8, depths=[1], upscale=2, upsampler="pixelshuffle", squeeze_factor=6),
    "DAT": lambda: DAT.DAT(**{**WINDOWS, "embed_dim": 32}, depth=[2], upscale=2, upsampler="pixelshuffledirect"),
    "NAFNet": lambda: NAFNet.NAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
    "SCUNet": lambda: SCUNet.SCUNet(config=[1] * 7, dim=64),
    "ESRGAN": lambda: ESRGAN.ESRGAN(num_filters=8, num_blocks=1, scale=4),
    "SAFMN": lambda: SAFMN.SAFMN(dim=8, n_blocks=1, upscaling_factor=4),
    "Uformer": lambda: Uformer.Uformer(img_size=128, embed_dim=4, depths=[1] * 9, num_heads=[1] * 9),
}
SIZES = {
    "HAT": SizeRequirements(minimum=16),
    "SCUNet": SizeRequirements(minimum=40),
    "SAFMN": SizeRequirements(multiple_of=8),
    "Uformer": SizeRequirements(multiple_of=128, square=True),
}


@pytest.fixture(scope="module")
def states():
    """The weights of each network, random; zeros where networks begin as the identity would tell nothing."""
    torch.manual_seed(0)
    made = {name: make().state_dict() for name, make in NETWORKS.items()}
    return {name: {key: stirred(value) for key, value in state.items()} for name, state in made.items()}


def stirred(value):
    return value + 0.02 * torch.rand_like(value) if value.is_floating_point() else value


def save(state, path, entry):
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save({entry: state} if entry else state, path)
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_it_restores_as_spandrel_does(states, name, tmp_path):
    entry = {"HAT": "params_ema", "NAFNet": "params", "Uformer": "state_dict"}.get(name)
    path = save(states[name], tmp_path / ("net.safetensors" if name == "SAFMN" else "net.pth"), entry)
    ours, theirs = load(path, device="cpu"), spandrel.ModelLoader().load_from_file(path)
    assert (ours.options, theirs.architecture.name) == ({"type": name}, name)
    assert ours.descriptor.scale == theirs.scale
    assert ours.descriptor.size == SIZES.get(name, ours.descriptor.size)
    image = torch.rand(1, 3, 43, 57)
    torch.testing.assert_close(ours.restore(image), theirs(image))


def test_the_command_restores_in_tiles_and_batches(states, tmp_path):
    path = save(states["HAT"], tmp_path / "hat.pth", "params_ema")
    cv2.imwrite(str(tmp_path / "photo.png"), np.random.default_rng(0).integers(0, 255, (33, 70, 3), np.uint8))
    command = ["restore", str(tmp_path / "photo.png"), "-o", str(tmp_path / "x2.png"), "--model", str(path)]
    assert main([*command, "--tile", "48", "--tile-overlap", "8"]) == 0
    assert cv2.imread(str(tmp_path / "x2.png")).shape == (66, 140, 3)
    images, net = torch.rand(2, 3, 20, 24), load(path, device="cpu")
    restored = net.restore(images)
    torch.testing.assert_close(restored[1:], net.restore(images[1:]))


def test_a_wrapped_network(states, tmp_path):
    state = {f"net_g.{key}": value for key, value in states["NAFNet"].items()}
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    assert load(tmp_path / "x.pth", device="cpu").options == {"type": "NAFNet"}


def test_without_basicsr_its_networks_are_spandrel_s(python, tmp_path):
    net = SwinIR.SwinIR(**WINDOWS, window_size=8, depths=[1], upscale=2, upsampler="pixelshuffle")
    save(net.state_dict(), tmp_path / "swinir.pth", "params")
    code = """
import sys
sys.modules["basicsr"] = None
import semanir_plugin
print(type(semanir_plugin.load("swinir.pth").module).__name__)
"""
    assert python(code).splitlines()[-1] == "SpandrelNetwork"


def changed(state, **more):
    return {**state, **{key.replace("__", "."): value for key, value in more.items()}}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"layers__0__extra": torch.zeros(1)}, "spandrel takes it for HAT, which does not fit: .*layers.0.extra"),
        ({"layers__123456789012__x": torch.zeros(1)}, "its 'layers.123456789012.x' is of more than 1,000 layers"),
        ({"relative_position_index_SA": torch.zeros(10**9, 0)}, "spandrel takes it for HAT, which does not fit: .*"),
        ({"conv_first__bias": torch.full((12,), torch.nan)}, r"its 'conv_first.bias' has values that are no numbers"),
        ({"conv_first__bias": torch.zeros(12, dtype=torch.complex64)}, "its 'conv_first.bias' is complex"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(states, tmp_path, monkeypatch, more, told):
    monkeypatch.setattr("semanir_plugin.inference.loading.recognize", lambda _: None)  # SwinIR, by its names
    torch.save(changed(states["HAT"], **more), tmp_path / "net.pth")
    with pytest.raises(UserError, match=rf"net\.pth: {told}") as caught:
        load(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.fixture
def known(monkeypatch):
    """Has spandrel take all weights for an architecture that is loaded by a function of theirs."""

    def register(name, load):
        support = SimpleNamespace(architecture=SimpleNamespace(name=name, load=load), detect=lambda _: True)
        registry = SimpleNamespace(architectures=lambda _: [support])
        monkeypatch.setattr(spandrel_networks, "_registry", lambda: registry)

    return register


@pytest.mark.parametrize("purpose", ["Inpainting", "FaceSR"])
def test_networks_of_other_tasks(tmp_path, known, purpose):
    known("LaMa", lambda _: SimpleNamespace(purpose=purpose))
    torch.save({"x": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"net\.pth: is of LaMa, which .*; networks from image to image restore"):
        load(tmp_path / "net.pth")


def test_no_more_is_built_than_the_file_has(tmp_path, known):
    known("Wide", lambda _: torch.nn.Linear(2_000, 2_000))
    torch.save({"x": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"takes it for Wide, which does not fit: they ask for .* than the file has"):
        load(tmp_path / "net.pth")


def test_where_it_is_missing_the_extra_is_named(states, tmp_path, monkeypatch):
    torch.save(states["NAFNet"], tmp_path / "net.pth")
    monkeypatch.setattr(spandrel_networks, "find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r"does not say .*: -opt, or .*; or .*: pip install 'semanir_plugin\[spandrel\]'"
    ):
        load(tmp_path / "net.pth")


def test_they_have_no_option_file(states, tmp_path):
    torch.save(states["NAFNet"], tmp_path / "net.pth")
    with pytest.raises(UserError, match="does not say what network it is of"):
        describe_weights(tmp_path / "net.pth")


def test_restormer_where_the_extra_architectures_are(tmp_path):
    restormer = pytest.importorskip("spandrel_extra_arches.architectures.Restormer").Restormer
    torch.save({"params": restormer(dim=8, num_blocks=[1, 1, 1, 1]).state_dict()}, tmp_path / "net.pth")
    assert load(tmp_path / "net.pth", device="cpu").options == {"type": "Restormer"}
