"""Register this package's architectures, models, datasets, losses and metrics with BasicSR."""

from __future__ import annotations

import importlib
import logging

from semanir_plugin.registry import REGISTRIES

__all__ = ["register_in_host"]

PACKAGES = (
    "semanir_plugin.archs",
    "semanir_plugin.losses",
    "semanir_plugin.metrics",
    "semanir_plugin.basicsr_host.data",
    "semanir_plugin.basicsr_host.models",
)


def register_in_host() -> None:
    """Import all modules that register something, enter it in BasicSR's registries, and log to BasicSR's logger.

    Raises:
        KeyError: BasicSR, or another package, has an entry of the same name.
    """
    from basicsr.utils import registry as host  # here, as BasicSR's own import calls this

    for package in PACKAGES:
        importlib.import_module(package)
    for registry in REGISTRIES:
        # Not by `Registry.register`, which refuses what a module defines again when it is reloaded.
        registry.mirror_in(getattr(host, registry.host_name)._obj_map)
    logging.getLogger("semanir_plugin").parent = logging.getLogger("basicsr")
