"""What keeps the workers of a loader from handing over batches, and what helps."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from semanir_plugin.errors import UserError

__all__ = ["ENLARGE", "explain_loader_error"]

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps what processes share."""

FEWER_WORKERS = "lower datasets.train.num_worker_per_gpu; 0 needs none of it"
ENLARGE = "docker run --shm-size=8g, or --ipc=host"

_NO_MEMORY = re.compile(r"(shared memory|shm|/torch_).*No space left on device", re.DOTALL)
_NO_FILES = re.compile(r"Too many open files|received 0 items of ancdata")


def explain_loader_error(error: BaseException) -> UserError | None:
    """Return what to do about an error of a loader, where it is one of the machine's limits; else None."""
    text = str(error)
    if _NO_MEMORY.search(text) or getattr(error, "errno", None) == errno.ENOSPC:
        return UserError(
            f"workers of the loader hand batches over in {_describe_memory()}: enlarge it ({ENLARGE}), "
            f"or {FEWER_WORKERS}"
        )
    if _NO_FILES.search(text) or getattr(error, "errno", None) == errno.EMFILE:
        return UserError(
            "workers of the loader hand batches over in open files, of which a process may have no more: raise the "
            f"limit (ulimit -n 65536), or {FEWER_WORKERS}"
        )
    return None


def _describe_memory() -> str:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return "shared memory, of which there is too little"
    free, total = (f"{size / 2**20:,.2f} MiB" for size in (usage.free, usage.total))
    return f"{SHARED_MEMORY}, which has {free} free of {total}"
