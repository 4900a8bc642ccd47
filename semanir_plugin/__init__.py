"""SemanIR and AST: image restoration by PyTorch alone, and as a plugin for BasicSR.

    net = semanir_plugin.load("semanir-mini-x4")
    image = net.restore("photo.jpg")

Importing this package imports neither torch nor BasicSR. It attaches to BasicSR at the moment that is imported: the
host is made importable and correct on a current stack (`semanir_plugin.basicsr_host`), and every architecture, model,
dataset, loss and metric enters its registries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semanir_plugin.import_hooks import attach_to_hosts

if TYPE_CHECKING:
    from semanir_plugin.inference.loading import load

__all__ = ["__version__", "load"]

__version__ = "0.1.0"

attach_to_hosts()


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from semanir_plugin.inference.loading import load  # with torch, which is not needed before

    return load
