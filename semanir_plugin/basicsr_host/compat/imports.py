"""Import repairs: what `import basicsr` needs on a current stack, put in place for the length of that import."""

from __future__ import annotations

import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from semanir_plugin.errors import UserError
from semanir_plugin.torchvision_repair import swapped

__all__ = ["HostNotFoundError", "host_importable", "require_host"]

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
    with ExitStack() as stack:
        for old, new in MOVED.items():
            replacement = pkgutil.resolve_name(new)
            if not _resolves(old):
                module, name = old.split(":")
                stand_in = ModuleType(module)
                setattr(stand_in, name, replacement)
                stack.enter_context(swapped(sys.modules, module, stand_in))
        yield


def _resolves(name: str) -> bool:
    """Return whether `module:attribute` can be imported without a deprecation warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            pkgutil.resolve_name(name)
    except (ImportError, AttributeError, DeprecationWarning):
        return False
    return True
