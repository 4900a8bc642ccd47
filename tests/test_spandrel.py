"""Our networks loaded by spandrel, as ComfyUI and chaiNNer do."""

from __future__ import annotations

import pytest
import spandrel
import torch
from basicsr.models.base_model import BaseModel
from safetensors.torch import save_file

import semanir_plugin.spandrel
from semanir_plugin.archs import AST, MixedArch, SemanIR, SemanIRUNet
from semanir_plugin.archs.ast_checkpoints import to_authors_layout
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.shipped_weights import shipped_weights
from tests.conftest import TINY_NETWORK

OURS = ["SemanIR", "SemanIRUNet", "AST", "MixedArch"]
OPTIONS = {
    "type": "SemanIR",
    "upscale": 2,
    "upsampler": "pixelshuffledirect",
    **TINY_NETWORK,
    "similarity": "cosine",
    "shift": "none",
    "topk": [4, 12],
}
MIXED = {"type": "MixedArch", "base": OPTIONS, "mix": [{"where": "norm_first", "what": "mlp", "how": "append"}]}
PROMPTED = {"type": "SemanIRUNet", "embed_dim": 8, "head_dim": 4, "depths": [1, 1], "refinement_depth": 1}
PROMPTED |= {"window_sizes": [8, 4], "topk": 9, "prompts": 3}
TINY_AST = {"img_size": 128, "embed_dim": 4, "depths": [1, 2, 1, 2, 1], "num_heads": [1, 2, 2, 4, 1], "win_size": 4}


def build(cls, options, seed=0):
    torch.manual_seed(seed)
    return cls(**{key: value for key, value in options.items() if key != "type"}).eval()


def load_by_spandrel(path):
    return spandrel.ModelLoader().load_from_file(path)


@torch.no_grad()
def restored(net, image):
    return net(image).clamp(0, 1)


@pytest.mark.parametrize("name", shipped_weights())
def test_shipped_weights_give_the_same_pixels(name):
    ours, theirs = load(name, device="cpu"), load_by_spandrel(shipped_weights()[name])
    told = ours.descriptor
    for height, width in ((19, 33), (5, 3)):  # no multiple of the windows, and less than one of them
        image = torch.rand(1, told.in_channels, height, width)
        assert torch.equal(theirs(image), ours.restore(image))
    assert theirs.architecture.id == type(ours.module).__name__
    channels = 1 if "gray" in name else 3
    assert (theirs.scale, theirs.input_channels, theirs.output_channels) == (told.scale, channels, channels)
    assert theirs.purpose == ("SR" if told.scale > 1 else "Restoration")


def test_checkpoints_of_trainings(tmp_path):
    model = BaseModel(
        {"num_gpu": 0, "is_train": True, "dist": False, "path": {"models": tmp_path}, "network_g": OPTIONS}
    )
    average, image = build(SemanIR, OPTIONS, 1), torch.rand(1, 3, 9, 13)
    model.save_network([build(SemanIR, OPTIONS), average], "net_g", 7, ["params", "params_ema"])
    loaded = load_by_spandrel(tmp_path / "net_g_7.pth")
    assert torch.equal(loaded(image), restored(average, image))
    assert loaded.tags == ["8dim", "12k", "8win"]


def test_a_network_whose_tokens_are_cells_of_pixels(tmp_path):
    options = {**OPTIONS, "upscale": 1, "unshuffle": 2}
    save_weights(tmp_path / "net.safetensors", build(SemanIR, options), options)
    bare = load(tmp_path / "net.safetensors")
    loaded, image = load_by_spandrel(tmp_path / "net.safetensors"), torch.rand(1, 3, 9, 13)
    assert (loaded.scale, loaded.purpose) == (1, "Restoration")
    assert torch.equal(loaded(image), bare.restore(image))


def test_files_in_half_precision_and_networks_saved_again(tmp_path):
    save_weights(tmp_path / "net.safetensors", build(SemanIR, OPTIONS), OPTIONS)
    loaded = load_by_spandrel(tmp_path / "net.safetensors")
    save_file({key: value.half() for key, value in loaded.model.state_dict().items()}, tmp_path / "half.safetensors")
    halved = load_by_spandrel(tmp_path / "half.safetensors")
    image = torch.rand(1, 3, 9, 13)
    torch.testing.assert_close(halved(image), loaded(image), atol=0.02, rtol=0)
    assert load(tmp_path / "half.safetensors").options == OPTIONS


@pytest.fixture
def prompted(tmp_path):
    """A file of a network whose prompts matter."""
    net = build(SemanIRUNet, PROMPTED)
    for each in net.prompts.parameters():
        each.data.mul_(10)
    net.conv_last.weight.data.mul_(100)
    save_weights(tmp_path / "net.safetensors", net, PROMPTED)
    return net, tmp_path / "net.safetensors"


def test_a_network_with_prompts(prompted):
    net, path = prompted
    loaded, image = load_by_spandrel(path), torch.rand(1, 3, 9, 13)
    assert loaded.architecture.id == "SemanIRUNet"
    assert torch.equal(loaded(image), restored(net, image))
    assert {name for name in loaded.model.state_dict() if "prompts" in name}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["semanir-mini-x4", "prompted"])
def test_half_precision(dtype, name, prompted):
    loaded = load_by_spandrel(prompted[1] if name == "prompted" else shipped_weights()[name])
    image = torch.rand(1, 3, 9, 13)
    expected = loaded(image)
    assert -10 * torch.log10((loaded.to(dtype)(image.to(dtype)) - expected).square().mean()) > 40


def test_a_mixed_network(tmp_path):
    net, image = build(MixedArch, MIXED), torch.rand(1, 3, 9, 13)
    save_weights(tmp_path / "net.safetensors", net, MIXED)
    loaded = load_by_spandrel(tmp_path / "net.safetensors")
    assert loaded.architecture.id == "MixedArch"
    assert torch.equal(loaded(image), restored(net, image))


def test_files_of_ast_s_authors(tmp_path):
    net, image = build(AST, TINY_AST), torch.rand(1, 3, 32, 16)
    torch.save({"epoch": 3, "state_dict": to_authors_layout(net.state_dict())}, tmp_path / "model_best.pth")
    loaded = load_by_spandrel(tmp_path / "model_best.pth")
    assert loaded.architecture.id == "AST"
    assert torch.equal(loaded(image), restored(net, image))


def test_uformer_has_names_of_ast_and_is_none():
    net = spandrel.architectures.Uformer.Uformer(img_size=128, embed_dim=8, depths=[1] * 9)
    loaded = spandrel.ModelLoader().load_from_state_dict(net.state_dict())
    assert loaded.architecture.id == "Uformer"


@pytest.mark.parametrize("cls", [SemanIR, AST])
def test_weights_without_a_record_are_recognised_and_refused(cls):
    net = build(cls, OPTIONS if cls is SemanIR else TINY_AST)
    with pytest.raises(UserError, match=rf"these weights of {cls.__name__} have no semanir_plugin\.network_g"):
        spandrel.ModelLoader().load_from_state_dict(net.state_dict())


def test_a_registry_of_one_s_own():
    registry = spandrel.MAIN_REGISTRY.copy()
    assert [each.architecture.id for each in registry.architectures("detection")[:4]] == OURS, "before others"
    semanir_plugin.spandrel.register(registry)
    assert len(registry) == len(spandrel.MAIN_REGISTRY)
    empty = spandrel.ArchRegistry()
    semanir_plugin.spandrel.register(empty)
    assert [each.architecture.id for each in empty] == OURS


def test_importing_spandrel_after_this_package_is_enough(python):
    code = """
import sys
sys.modules["basicsr"] = None  # the core is enough
import semanir_plugin
import spandrel
print("SemanIR" in spandrel.MAIN_REGISTRY)
"""
    assert python(code).splitlines()[-1] == "True"


def test_where_it_is_missing_the_extra_is_named(python):
    code = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "spandrel" else find(name, *rest)
try:
    import semanir_plugin.spandrel
except Exception as error:
    print(type(error).__name__, error)
"""
    told = "UserError semanir_plugin.spandrel needs the package spandrel: pip install 'semanir_plugin[spandrel]'"
    assert python(code).strip() == told
