"""Repairs of the imported BasicSR: each function in these modules replaces a faulty one of BasicSR's.

The replacements are set on BasicSR's own classes and modules, so its stock models and datasets gain from them as well.
Each docstring names the failure; each module has a table of its own. Import this package after `basicsr`;
`semanir_plugin.import_hooks` sees to it.
"""

from __future__ import annotations

from semanir_plugin.basicsr_host.compat.repairs import (
    architectures,
    checkpoints,
    downloads,
    hifacegan,
    image_files,
    lmdbs,
    lookups,
    losses,
    networks,
    optimization,
    pairs,
    prefetching,
    real_world,
    resuming,
    scripts,
    strides,
    stylegan2,
    tracking,
    video,
)
from semanir_plugin.basicsr_host.compat.repairs.table import Repair

__all__ = ["REPAIRS", "repair_host"]

MODULES = (
    lookups,
    image_files,
    lmdbs,
    pairs,
    prefetching,
    optimization,
    architectures,
    networks,
    checkpoints,
    resuming,
    losses,
    strides,
    downloads,
    tracking,
    real_world,
    stylegan2,
    hifacegan,
    video,
    scripts,
)

REPAIRS: tuple[Repair, ...] = tuple(repair for module in MODULES for repair in module.REPAIRS)


def repair_host() -> None:
    """Put every replacement in its place. Repeating it changes nothing."""
    for owner, name, replacement in REPAIRS:
        setattr(owner, name, replacement)
