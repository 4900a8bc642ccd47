"""Repairs of how BasicSR finds registered classes and the files of a folder."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from basicsr.data import data_util
from basicsr.utils.registry import Registry

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.errors import near_match

__all__ = ["REPAIRS"]


def get_registered(self: Any, name: str, suffix: str = "basicsr") -> Any:
    """`Registry.get` prints that it uses `name_basicsr` instead, also right before the KeyError that says it does not.

    Raises:
        KeyError: Neither `name` nor `name_suffix` is registered; the message names a near match.
    """
    for key in (name, f"{name}_{suffix}"):
        if key in self:
            return self._obj_map[key]
    near = near_match(name, self.keys())
    raise KeyError(f"no '{name}' in the {self._name} registry{f'; did you mean {near!r}?' if near else ''}")


_scandir = inspect.unwrap(data_util.scandir)


@functools.wraps(_scandir)
def scan_in_order(*args: Any, **kwargs: Any) -> list[str]:
    """Pairs of folders are listed as the file system has them: another machine numbers the same images otherwise.

    Then neither does a seed mean the same there, nor have processes on both of them each their share of a set.
    """
    return sorted(_scandir(*args, **kwargs))


REPAIRS: tuple[Repair, ...] = (
    (Registry, "get", get_registered),
    (data_util, "scandir", scan_in_order),
)
