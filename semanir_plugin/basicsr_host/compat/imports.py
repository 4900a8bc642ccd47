"""Import repairs: what `import basicsr` needs on a current stack, put in place for the length of that import."""

from __future__ import annotations

import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from semanir_plugin.errors import UserError

__all__ = ["HostNotFoundError", "host_importable", "require_host", "swapped"]

INSTALL = "python -m semanir_plugin.basicsr_host.install"

# What the host imports from where it no longer is, and where it is, or what serves in its place.
MOVED = {
    # gone since torchvision 0.17
    "torchvision.transforms.functional_tensor:rgb_to_grayscale": "torchvision.transforms.functional:rgb_to_grayscale",
    # gone since Python 3.12, unless setuptools brings it; the host compares versions of torchvision with it
    "distutils.version:LooseVersion": "torch.torch_version:TorchVersion",
    # deprecated, to go in SciPy 2
    "scipy.ndimage.filters:convolve": "scipy.ndimage:convolve",
}


class HostNotFoundError(UserError, ImportError):
    """Error where BasicSR is missing, or another package has its name."""


def require_host(spec: ModuleSpec | None) -> ModuleSpec:
    """Return BasicSR's spec, if it is that of a version with registries.

    Restormer, ASTv2 and others ship an early `basicsr` without them, which shadows the real one where it is installed.

    Raises:
        HostNotFoundError: It is not, or there is none.
    """
    if spec is None:
        raise HostNotFoundError(f"BasicSR is not installed; run: {INSTALL}", name="basicsr")
    folders = list(spec.submodule_search_locations or [])
    if not any(Path(folder, "utils", "registry.py").is_file() for folder in folders):
        found = folders[0] if folders else spec.origin
        raise HostNotFoundError(
            f"the package 'basicsr' at {found} is not BasicSR 1.4 (it has no registries) and shadows it; "
            f"uninstall it or take it off the path, then run: {INSTALL}",
            name="basicsr",
        )
    return spec


@contextmanager
def host_importable() -> Iterator[None]:
    """Make `import basicsr` succeed within the block."""
    _import_torchvision()
    with ExitStack() as stack:
        for old, new in MOVED.items():
            replacement = pkgutil.resolve_name(new)
            if not _resolves(old):
                module, name = old.split(":")
                stand_in = ModuleType(module)
                setattr(stand_in, name, replacement)
                stack.enter_context(swapped(sys.modules, module, stand_in))
        yield


def _import_torchvision() -> None:
    """Import torchvision where its compiled operators cannot be loaded.

    PyPI's wheels are CUDA builds. Beside a CPU-only torch, torchvision passes over its operators but then registers
    fakes for them, which raises `RuntimeError: operator torchvision::nms does not exist`. Of them the host needs
    deformable convolution alone, for EDVR and BasicVSR++.
    """
    import torch

    register_fake = torch.library.register_fake

    def register_existing(op: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        namespace, _, name = str(op).partition("::")
        if namespace == "torchvision" and not hasattr(torch.ops.torchvision, name):
            return lambda function: function
        return register_fake(op, *args, **kwargs)

    with swapped(vars(torch.library), "register_fake", register_existing):
        import torchvision
    if not hasattr(torch.ops.torchvision, "deform_conv2d"):
        from semanir_plugin.basicsr_host.compat.deformable import deform_conv2d

        torchvision.ops.deform_conv2d = torchvision.ops.deform_conv.deform_conv2d = deform_conv2d


def _resolves(name: str) -> bool:
    """Return whether `module:attribute` can be imported without a deprecation warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            pkgutil.resolve_name(name)
    except (ImportError, AttributeError, DeprecationWarning):
        return False
    return True


@contextmanager
def swapped(table: MutableMapping[str, Any], key: str, value: Any) -> Iterator[None]:
    """Set `key` to `value` for the length of the block."""
    before = {key: table[key]} if key in table else {}
    table[key] = value
    try:
        yield
    finally:
        del table[key]
        table.update(before)
