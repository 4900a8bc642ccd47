"""The nodes for ComfyUI, loaded and called as it does: by the interface that it documents, with stand-ins for it."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from semanir_plugin.archs import SemanIR
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import load
from tests.conftest import ROOT, TINY_NETWORK

NODES = ROOT / "integrations" / "comfyui"
OPTIONS = {"upscale": 2, "upsampler": "pixelshuffledirect", **TINY_NETWORK}


class ProgressBar:
    """Stands for `comfy.utils.ProgressBar`."""

    seen: list = []

    def __init__(self, total):
        self.total = total

    def update_absolute(self, value, total=None, preview=None):
        self.seen.append((value, total))


@pytest.fixture
def comfy(monkeypatch, tmp_path):
    """ComfyUI's modules, as far as nodes use them; the folder of its networks is returned."""
    monkeypatch.setattr(ProgressBar, "seen", [])
    names = lambda folder: sorted(each.name for each in tmp_path.iterdir()) if folder == "upscale_models" else []  # noqa: E731
    modules = {
        "comfy": ModuleType("comfy"),
        "comfy.utils": SimpleNamespace(ProgressBar=ProgressBar),
        "comfy.model_management": SimpleNamespace(get_torch_device=lambda: torch.device("cpu")),
        "folder_paths": SimpleNamespace(
            get_filename_list=names, get_full_path_or_raise=lambda folder, name: str(tmp_path / name)
        ),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return tmp_path


@pytest.fixture
def nodes(monkeypatch):
    """The nodes by their names, from a folder that is no package of any path, as custom_nodes has them."""
    spec = importlib.util.spec_from_file_location("custom_nodes_semanir", NODES / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for name in [each for each in sys.modules if each.startswith(f"{spec.name}.")]:
        del sys.modules[name]


def inputs_of(node):
    declared = node.INPUT_TYPES()
    return {**declared["required"], **declared.get("optional", {})}


def run(node, **given):
    """Call a node as ComfyUI's executor does, with the defaults that its page would send."""
    widgets = {}
    for name, (kind, *settings) in inputs_of(node).items():
        default = (settings[0] if settings else {}).get("default", kind[0] if isinstance(kind, list) else None)
        if default is not None:
            widgets[name] = default
    result = getattr(node(), node.FUNCTION)(**{**widgets, **given})
    assert isinstance(result, tuple)
    assert len(result) == len(node.RETURN_TYPES)
    return result[0]


def test_the_folder_is_what_comfyui_loads(nodes, comfy):
    assert nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        assert isinstance(node.CATEGORY, str)
        assert all(isinstance(kind, str) for kind in node.RETURN_TYPES)
        declared = node.INPUT_TYPES()
        assert declared.keys() <= {"required", "optional", "hidden"}
        for kind, *settings in inputs_of(node).values():
            assert isinstance(kind, str | list)
            told = settings[0] if settings else {}
            if kind == "INT":
                assert told["min"] <= told["default"] <= told["max"]
                assert told["default"] % told.get("step", 1) == 0
            if isinstance(kind, list):
                assert kind
                assert told.get("default", kind[0]) in kind
        accepted = getattr(node, node.FUNCTION).__code__.co_varnames
        assert set(inputs_of(node)) <= set(accepted)


def test_images_become_what_our_own_makes_of_them(nodes, comfy):
    loader, restorer = nodes.NODE_CLASS_MAPPINGS.values()
    images = torch.rand(2, 19, 33, 3)
    network = run(loader, name="semanir-mini-x4")
    restored = run(restorer, network=network, image=images)
    expected = load("semanir-mini-x4", device="cpu").restore(images.movedim(-1, 1))
    assert restored.shape == (2, 76, 132, 3)
    torch.testing.assert_close(restored, expected.movedim(1, -1))
    assert restored.is_contiguous()


@pytest.fixture
def tiny(comfy):
    """A network in ComfyUI's folder, by its name there."""
    net = SemanIR(**OPTIONS)
    save_weights(comfy / "tiny.safetensors", net, {"type": "SemanIR", **OPTIONS})
    return "tiny.safetensors"


def test_settings_and_progress(nodes, tiny, comfy):
    loader, restorer = nodes.NODE_CLASS_MAPPINGS.values()
    assert tiny in inputs_of(loader)["name"][0]
    network, images = run(loader, name=tiny), torch.rand(2, 24, 40, 3)
    settings = {"tile": 24, "tile_overlap": 8, "self_ensemble": True}
    restored = run(restorer, network=network, image=images, keys=5, **settings)
    expected = load(comfy / tiny, device="cpu").restore(images.movedim(-1, 1), topk=5, **settings)
    torch.testing.assert_close(restored, expected.movedim(1, -1))
    done, totals = zip(*ProgressBar.seen, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == list(range(1, totals[0] + 1))
    assert totals[0] > 2
    assert run(loader, name="", elsewhere=f" {comfy / tiny} ").options == network.options


def test_opacity_and_gray(nodes, comfy):
    loader, restorer = nodes.NODE_CLASS_MAPPINGS.values()
    gray = SemanIR(**OPTIONS, in_chans=1)
    save_weights(comfy / "gray.safetensors", gray, {"type": "SemanIR", **OPTIONS, "in_chans": 1})
    network, images = run(loader, name="gray.safetensors"), torch.rand(1, 9, 13, 4)
    images[..., 3] = 0.5
    restored = run(restorer, network=network, image=images)
    expected = network.restore(images[..., :3].movedim(-1, 0))
    torch.testing.assert_close(restored[0, ..., :3], expected[:, 0].movedim(0, -1))
    torch.testing.assert_close(restored[..., 3], torch.full((1, 18, 26), 0.5))


def test_what_does_not_go_together_is_told(nodes, comfy):
    loader, restorer = nodes.NODE_CLASS_MAPPINGS.values()
    network, images = run(loader, name="ast-mini-derain"), torch.rand(1, 9, 13, 3)
    with pytest.raises(ValueError, match="topk is for networks that choose keys, which AST does not"):
        run(restorer, network=network, image=images, keys=5)
    with pytest.raises(UserError, match="no file and no weights"):
        run(loader, elsewhere="absent.pth")


def test_it_works_outside_of_comfyui(nodes):
    loader, restorer = nodes.NODE_CLASS_MAPPINGS.values()
    restored = run(restorer, network=run(loader, name="semanir-mini-x2"), image=torch.rand(1, 9, 13, 3))
    assert restored.shape == (1, 18, 26, 3)


def test_its_import_registers_in_spandrel(nodes):
    import spandrel

    assert "SemanIR" in spandrel.MAIN_REGISTRY
