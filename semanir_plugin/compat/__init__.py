"""The one place that makes BasicSR importable and correct on a current stack.

`attach` arranges for three steps to happen whenever `basicsr`, the host, is imported: `imports` makes the import itself
possible, `host` replaces what is broken in it, and the packages in `REGISTERING` enter its registries. Nothing is
changed on disk, and nothing heavy is imported before the host is.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from semanir_plugin.compat.imports import host_importable, require_host

__all__ = ["REGISTERING", "attach"]

HOST = "basicsr"

# Imported in this order once the host is. A later package takes names from an earlier one's submodules, not from its
# `__init__`, which may be the very module whose import brought the host in and be half-way through.
REGISTERING = (
    "semanir_plugin.archs",
    "semanir_plugin.data",
    "semanir_plugin.losses",
    "semanir_plugin.metrics",
    "semanir_plugin.models",
)


def attach() -> None:
    """Repair BasicSR and register in it, now if it is imported already, else at the moment it is.

    Calling it again changes nothing.

    Raises:
        HostNotFoundError: The `basicsr` already imported is another package of that name.
    """
    if HOST in sys.modules:
        require_host(sys.modules[HOST].__spec__)
        _complete()
    elif not any(isinstance(finder, HostFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, HostFinder())


def _complete() -> None:
    """Repair the imported host and fill its registries."""
    from semanir_plugin.compat.host import repair_host

    repair_host()
    for package in REGISTERING:
        importlib.import_module(package)


class HostFinder(MetaPathFinder):
    """Finds the host where the other finders do, and has it loaded by `HostLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the host's spec, or None for any other module."""
        if fullname != HOST:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        spec = require_host(spec)
        assert spec.loader is not None
        spec.loader = HostLoader(spec.loader)
        return spec


class HostLoader(Loader):
    """Runs the genuine loader amid the import-time repairs, then completes the host."""

    def __init__(self, genuine: Loader) -> None:
        self.genuine = genuine

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave the module's creation to the genuine loader."""
        return self.genuine.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import the host as if nothing stood between it and its genuine loader."""
        module.__loader__ = self.genuine
        if module.__spec__ is not None:
            module.__spec__.loader = self.genuine
        with host_importable():
            self.genuine.exec_module(module)
        _complete()
