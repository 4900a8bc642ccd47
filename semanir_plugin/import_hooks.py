"""Attach this package to BasicSR, OpenMMLab's mmengine and spandrel, at the moment they are imported.

`attach_to_hosts` arranges it without importing anything heavy. BasicSR is made importable on a current stack, what is
broken in it is replaced, and its registries take up ours; mmengine's registries get a scope `semanir_plugin`, and
spandrel's our architectures. torchvision, which they import, is made importable where its operators are of another
build than torch, and quick to import. Nothing is changed on disk.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NamedTuple

from semanir_plugin.basicsr_host.compat.imports import host_importable, require_host
from semanir_plugin.torchvision_repair import compiler_put_off, complete_torchvision, torchvision_importable

__all__ = ["attach_to_hosts"]

BASICSR, MMENGINE, SPANDREL, TORCHVISION = "basicsr", "mmengine.registry", "spandrel", "torchvision"


def attach_to_hosts() -> None:
    """Attach to the hosts that are imported already, and to the others when they are.

    Calling it again changes nothing.

    Raises:
        HostNotFoundError: The `basicsr` already imported is another package of that name.
    """
    if sys.modules.get(BASICSR) is not None:  # None stands for what may not be imported
        require_host(sys.modules[BASICSR].__spec__)
    if not any(isinstance(finder, HostFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, HostFinder())
    for name, host in HOSTS.items():
        if sys.modules.get(name) is not None:
            host.complete()


def _complete_basicsr() -> None:
    """Repair the imported BasicSR and fill its registries."""
    from semanir_plugin.basicsr_host.compat.repairs import repair_host

    repair_host()
    from semanir_plugin.basicsr_host.registrations import register_in_host

    register_in_host()


def _complete_mmengine() -> None:
    """Give mmengine's registries a scope of ours."""
    importlib.import_module("semanir_plugin.openmmlab")


def _complete_spandrel() -> None:
    """Enter our architectures in spandrel's registry."""
    importlib.import_module("semanir_plugin.spandrel")


class Host(NamedTuple):
    """A package that this one attaches to: what its import runs amid, and what is done once it is imported."""

    importable: Callable[[], AbstractContextManager[None]]
    complete: Callable[[], None]


HOSTS = {
    TORCHVISION: Host(torchvision_importable, complete_torchvision),
    f"{TORCHVISION}.ops.roi_align": Host(compiler_put_off, lambda: None),
    BASICSR: Host(host_importable, _complete_basicsr),
    MMENGINE: Host(nullcontext, _complete_mmengine),
    SPANDREL: Host(nullcontext, _complete_spandrel),
}


class HostFinder(MetaPathFinder):
    """Finder that locates a host through the other finders, and has it loaded by `HostLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a host's spec, or None for any other module.

        Raises:
            HostNotFoundError: It is BasicSR, which is not installed, or another package of that name.
        """
        if fullname not in HOSTS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if fullname == BASICSR:
            spec = require_host(spec)
        if spec is not None and spec.loader is not None:
            spec.loader = HostLoader(spec.loader)
        return spec


class HostLoader(Loader):
    """Loader that runs the genuine one amid what makes the host importable, then attaches this package."""

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
        host = HOSTS[module.__name__]
        with host.importable():
            self.genuine.exec_module(module)
        host.complete()
