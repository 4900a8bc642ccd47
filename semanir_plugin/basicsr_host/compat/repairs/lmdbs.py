"""Repairs of how BasicSR reads from LMDBs: in several datasets, copies and processes."""

from __future__ import annotations

import functools
import inspect
import os
from typing import Any

from basicsr.utils.file_client import LmdbBackend

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.basicsr_host.lmdb_environments import open_lmdb

__all__ = ["REPAIRS"]


def open_lmdbs(self: Any, db_paths: str | list[str], client_keys: str | list[str] = "default", **options: Any) -> None:
    """`LmdbBackend.__init__` cannot open what another dataset reads from in this process, or in the one it forked from.

    lmdb refuses to open an LMDB twice. Here datasets share it; workers close what they inherited and open it anew.
    """
    paths, keys = (list(each) if isinstance(each, list | tuple) else [each] for each in (db_paths, client_keys))
    self.db_paths = [str(path) for path in paths]  # datasets of clips have them as Path
    self._options = options
    self._process = os.getpid()
    self._client = {key: open_lmdb(path, **self._options) for key, path in zip(keys, self.db_paths, strict=True)}


_get_from_lmdb = inspect.unwrap(LmdbBackend.get)


@functools.wraps(_get_from_lmdb)
def get_in_this_process(self: Any, filepath: str, client_key: str) -> bytes | None:
    """`LmdbBackend.get` reads in a forked worker from what its parent opened, which LMDB does not allow."""
    if self._process != os.getpid():
        open_lmdbs(self, self.db_paths, list(self._client), **self._options)
    result: bytes | None = _get_from_lmdb(self, filepath, client_key)
    return result


def reopen_lmdb(self: Any) -> tuple[Any, ...]:
    """A dataset that has been read from cannot be sent to a spawned worker: an open LMDB does not pickle."""
    return type(self), (self.db_paths, list(self._client))


def share_lmdb(self: Any, memo: dict[int, Any]) -> Any:
    """A dataset that has been read from cannot be deep-copied: a process may open an LMDB only once."""
    return self


REPAIRS: tuple[Repair, ...] = (
    (LmdbBackend, "__init__", open_lmdbs),
    (LmdbBackend, "get", get_in_this_process),
    (LmdbBackend, "__reduce__", reopen_lmdb),
    (LmdbBackend, "__deepcopy__", share_lmdb),
)
