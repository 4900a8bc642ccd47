from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import basicsr  # noqa: F401  # with it, the real submodules of torchvision are there
import pytest
import torch

from semanir_plugin.import_hooks import HostFinder
from semanir_plugin.torchvision_repair.deformable import deform_conv2d
from tests.conftest import ROOT

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


COMPILER = """
import sys
import semanir_plugin, torchvision
print("torchvision.ops.roi_align" in sys.modules, "torch._dynamo" in sys.modules)
import torch
print(sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu"), "torch._dynamo" in sys.modules)
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""


def test_the_compiler_is_imported_when_it_is_asked_for(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMPILER]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.splitlines() == ["True False", "True True", "2.0"], done.stderr
