"""Lock of a run's folder: a second run of the same name is refused while the first one writes there."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from semanir_plugin.atomic_io import remove_unfinished, write_atomic
from semanir_plugin.basicsr_host.engine.run import Run
from semanir_plugin.errors import UserError

__all__ = ["run_locked"]

LOCKS = ".locks"
"""Folder beside those of the runs; the system releases what a killed process held."""

PATIENCE = 2.0  # seconds: a launcher starts a run again while the one before is still ending


@contextmanager
def run_locked(run: Run) -> Iterator[None]:
    """Hold a run's folder within the block; of several processes, the first one does.

    The lock is the system's, so it ends with the process, however that ends, and holds between hosts on NFS where that
    passes locks on. Where a file system has none, a warning says so.

    Raises:
        UserError: Another process holds it; the message says which.
    """
    folder = Path(run.opt["path"]["experiments_root" if run.opt["is_train"] else "results_root"])
    if run.opt["rank"] != 0:
        yield
        return
    place = Path(os.path.realpath(folder))  # whatever links lead there
    file, holder = (place.parent / LOCKS / f"{place.name}.{suffix}" for suffix in ("lock", "json"))
    lock = _acquire(folder, file, holder, run)
    try:
        yield
    finally:
        if lock is not None:
            holder.unlink(missing_ok=True)
            lock.release()


def _acquire(folder: Path, file: Path, holder: Path, run: Run) -> Any:
    """Return the lock; None where there can be none."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=PATIENCE)
        lock.acquire()
        remove_unfinished(holder.parent, holder.name)
        write_atomic(json.dumps(_about_this_process()).encode(), holder)
        return lock
    except Timeout as error:
        raise UserError(
            f"{folder} is written by {_describe(holder)}; wait for its end, or give this run another name"
        ) from error
    except NotImplementedError:
        run.logger.warning(f"{file}: this file system locks nothing; do not start '{folder.name}' twice.")
        return None
    except OSError as error:
        where = "path.experiments_root" if run.opt["is_train"] else "path.results_root"
        raise UserError(f"cannot write to {file.parent}: {error.strerror}; choose {where}") from error


def _about_this_process() -> dict[str, Any]:
    return {"host": platform.node(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _describe(holder: Path) -> str:
    try:
        about = json.loads(holder.read_bytes())
        return f"process {about['process']} on {about['host']}, since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it is only just starting
        return "another process"
