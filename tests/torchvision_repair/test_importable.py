from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import basicsr  # noqa: F401  # with it, the real submodules of torchvision are there
import pytest
import torch

from semanir_plugin.import_hooks import HostFinder
from semanir_plugin.torchvision_repair.deformable import deform_conv2d

TORCHVISION = """
import types

import torch

ops = types.SimpleNamespace(deform_conv2d="its own", deform_conv=types.SimpleNamespace())

@torch.library.register_fake("{namespace}::absent")
def absent():
    pass
"""


@pytest.fixture
def torchvision(tmp_path, monkeypatch):
    """Puts a torchvision on the path that registers a fake for an operator that was not loaded."""

    def install(namespace: str) -> None:
        (tmp_path / "torchvision.py").write_text(TORCHVISION.format(namespace=namespace))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "torchvision", raising=False)

    yield install
    # The submodules that were imported belong to the real one, which monkeypatch puts back.
    sys.modules.pop("torchvision", None)


def test_torchvision_imports_without_its_operators(torchvision, monkeypatch):
    torchvision("torchvision")
    monkeypatch.setattr(torch.ops, "torchvision", SimpleNamespace())  # beside a GPU's torch, all are there
    register_fake = torch.library.register_fake
    with monkeypatch.context() as stock:
        stock.setattr(sys, "meta_path", [each for each in sys.meta_path if not isinstance(each, HostFinder)])
        with pytest.raises(RuntimeError, match="torchvision::absent does not exist"):
            importlib.import_module("torchvision")
    ops = importlib.import_module("torchvision").ops
    assert torch.library.register_fake is register_fake
    assert ops.deform_conv2d is ops.deform_conv.deform_conv2d is deform_conv2d


def test_operator_of_torchvision_is_left_alone(torchvision, monkeypatch):
    torchvision("torchvision")
    monkeypatch.setattr(torch.ops, "torchvision", SimpleNamespace(deform_conv2d=object()))
    assert importlib.import_module("torchvision").ops.deform_conv2d == "its own"


def test_fakes_of_other_namespaces_still_fail(torchvision):
    torchvision("elsewhere")
    register_fake = torch.library.register_fake
    with pytest.raises(RuntimeError, match="elsewhere::absent does not exist"):
        importlib.import_module("torchvision")
    assert torch.library.register_fake is register_fake
