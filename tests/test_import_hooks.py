from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from basicsr.utils.registry import Registry

from semanir_plugin import import_hooks
from semanir_plugin.errors import UserError
from tests.test_core import PARTS


@pytest.fixture
def shadow(tmp_path):
    """A package named basicsr, importable from tmp_path, that has no registries."""
    package = tmp_path / "shadow" / "basicsr"
    (package / "utils").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "utils" / "__init__.py").touch()
    return package


def test_importing_the_plugin_imports_nothing_heavy(python):
    code = "import sys, semanir_plugin; print({'torch', 'basicsr', 'numpy', 'cv2'} & set(sys.modules))"
    assert python(code).strip() == "set()"


LIFE_OF_A_PROCESS = """
import importlib, sys

def attempt():
    try:
        import basicsr
        return "imported"
    except Exception as error:
        return type(error).__name__

print("stock:", attempt())

import semanir_plugin
importlib.reload(semanir_plugin)
print("finders:", sum(type(finder).__name__ == "HostFinder" for finder in sys.meta_path))

sys.path.insert(0, "shadow")
print("shadowed:", attempt())
sys.path.remove("shadow")

sys.modules["cv2"] = None
print("broken:", attempt())
del sys.modules["cv2"]
print("mended:", attempt())

import basicsr, torch
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import ARCH_REGISTRY
print("loader:", type(basicsr.__loader__).__name__, type(basicsr.__spec__.loader).__name__)
print("traces:", torch.library.register_fake.__module__, "torchvision.transforms.functional_tensor" in sys.modules)
print("repaired:", BaseModel.model_ema.__module__)
print("registered:", "SemanIR" in ARCH_REGISTRY)
importlib.reload(semanir_plugin)
"""


def test_host_is_repaired_whenever_it_is_first_imported(python, shadow):
    seen = dict(line.split(": ") for line in python(LIFE_OF_A_PROCESS).splitlines() if ": " in line)
    assert seen.pop("stock") in {"RuntimeError", "ModuleNotFoundError"}
    assert seen == {
        "finders": "1",
        "shadowed": "HostNotFoundError",
        "broken": "ModuleNotFoundError",
        "mended": "imported",
        "loader": "SourceFileLoader SourceFileLoader",
        "traces": "torch.library False",
        "repaired": "semanir_plugin.basicsr_host.compat.repairs.networks",
        "registered": "True",
    }


@pytest.mark.parametrize(
    ("first", "name", "registry"),
    [
        ("semanir_plugin.archs", "SemanIR", "ARCH"),
        ("semanir_plugin.basicsr_host.data", "JPEGDataset", "DATASET"),
        ("semanir_plugin.basicsr_host.data.jpeg_dataset", "JPEGDataset", "DATASET"),
    ],
)
def test_registering_package_may_be_the_first_import(python, first, name, registry):
    code = f"from {first} import {name}; from basicsr.utils.registry import {registry}_REGISTRY as known; "
    assert python(code + f"print(known.get('{name}') is {name})").splitlines()[-1] == "True"


def test_attach_repairs_a_host_imported_already(monkeypatch, stock):
    broken = stock("basicsr.utils.registry").Registry.get
    monkeypatch.setattr(Registry, "get", broken)
    import_hooks.attach_to_hosts()
    assert Registry.get is not broken


def test_attach_refuses_a_shadow_imported_already(monkeypatch, shadow):
    module = ModuleType("basicsr")
    module.__spec__ = ModuleSpec("basicsr", None, is_package=True)
    module.__spec__.submodule_search_locations.append(str(shadow))
    monkeypatch.setitem(sys.modules, "basicsr", module)
    with pytest.raises(UserError, match=str(shadow)):
        import_hooks.attach_to_hosts()


def test_shadowing_package_is_named_in_one_line(python, shadow):
    code = """
import sys, semanir_plugin
from semanir_plugin.errors import UserError
from tests.test_core import PARTS
sys.path.insert(0, "shadow")
try:
    import basicsr
except ImportError as error:
    assert isinstance(error, UserError)
    print(error)
assert "torch" not in sys.modules
"""
    message = python(code).splitlines()
    assert len(message) == 1
    assert str(shadow) in message[0]
    assert "python -m semanir_plugin.basicsr_host.install" in message[0]


def test_missing_host_says_how_to_install_it(monkeypatch):
    finder = import_hooks.HostFinder()
    monkeypatch.setattr(sys, "meta_path", [finder])
    with pytest.raises(ImportError, match=r"not installed; run: python -m"):
        finder.find_spec("basicsr")
    assert finder.find_spec("another") is None


IMPORT_EACH_FIRST = f"""
import importlib, os, pkgutil
import cv2, lmdb, scipy, torch  # they take long, and are none of ours
import semanir_plugin

CORE = {PARTS!r}  # of which none imports BasicSR, as `test_core.py` has it
for module in pkgutil.walk_packages(semanir_plugin.__path__, "semanir_plugin."):
    if module.name.split(".")[1] in CORE or "compat.repairs" in module.name or module.name.endswith("__main__"):
        continue  # BasicSR's import is what calls for its repairs
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module.name)
        except BaseException as error:
            print(module.name, type(error).__name__, error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_each_part_can_be_the_first_that_is_imported(python):
    assert python(IMPORT_EACH_FIRST) == "", "a circle of imports that BasicSR's import closes"
