from __future__ import annotations

import pkgutil
import sys
import warnings

import basicsr  # noqa: F401  # with it, the real submodules of torchvision are there
import pytest

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
