from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from types import SimpleNamespace

import basicsr  # noqa: F401  # with it, the real submodules of torchvision are there
import pytest
import torch

from semanir_plugin.basicsr_host.compat.deformable import deform_conv2d
from semanir_plugin.basicsr_host.compat.imports import MOVED, host_importable


@pytest.mark.parametrize("name", MOVED)
def test_moved_name_is_found_where_it_was(name, monkeypatch):
    module = name.split(":")[0]
    monkeypatch.setitem(sys.modules, module, None)  # what importing it finds where it is gone
    with pytest.raises(ImportError):
        pkgutil.resolve_name(name)
    with host_importable():
        assert callable(pkgutil.resolve_name(name))
    assert sys.modules[module] is None


def test_deprecated_names_are_taken_without_a_warning():
    with host_importable(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in MOVED:
            pkgutil.resolve_name(name)


def test_version_comparison_stands_in_for_distutils(monkeypatch):
    monkeypatch.setitem(sys.modules, "distutils.version", None)
    with host_importable():
        from distutils.version import LooseVersion
    assert LooseVersion("0.28.0+cpu") >= LooseVersion("0.9.0")
    assert not LooseVersion("0.8.1") >= LooseVersion("0.9.0")


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
    with pytest.raises(RuntimeError, match="torchvision::absent does not exist"):
        importlib.import_module("torchvision")
    with host_importable():
        ops = importlib.import_module("torchvision").ops
    assert torch.library.register_fake is register_fake
    assert ops.deform_conv2d is ops.deform_conv.deform_conv2d is deform_conv2d


def test_operator_of_torchvision_is_left_alone(torchvision, monkeypatch):
    torchvision("torchvision")
    monkeypatch.setattr(torch.ops, "torchvision", SimpleNamespace(deform_conv2d=object()))
    with host_importable():
        assert importlib.import_module("torchvision").ops.deform_conv2d == "its own"


def test_fakes_of_other_namespaces_still_fail(torchvision):
    torchvision("elsewhere")
    register_fake = torch.library.register_fake
    with pytest.raises(RuntimeError, match="elsewhere::absent does not exist"), host_importable():
        pass
    assert torch.library.register_fake is register_fake
