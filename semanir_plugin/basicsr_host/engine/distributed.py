"""Distributed runs: joining the process group, and reporting the process that failed."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import re
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.errors import UserError, one_line

__all__ = [
    "TIMEOUT",
    "LostProcessError",
    "detecting_lost_processes",
    "init_distributed",
    "read_timeout",
    "report_failure",
]

TIMEOUT = timedelta(minutes=30)
"""Time that a process waits for the others, where `dist_params.timeout` is not set."""

# Seconds that a process waits at its end for exchanges that another one does not take part in any more.
_LEAVING = 10.0

# What gloo says when another process does not answer; it has no class of its own for that.
_LOST = re.compile(r"connection (closed|reset) by peer|broken pipe|timed out", re.IGNORECASE)


class LostProcessError(RuntimeError):
    """Error where another process of the run is gone, or does not answer."""


def read_timeout(options: Mapping[str, Any]) -> timedelta:
    """Return the time after which a process gives up on the others: `dist_params.timeout`, in minutes, or `TIMEOUT`."""
    minutes = (options.get("dist_params") or {}).get("timeout")
    return TIMEOUT if minutes is None else timedelta(minutes=minutes)


def init_distributed(launcher: str, *, port: int | None = None, timeout: timedelta = TIMEOUT) -> None:
    """Join the process group that `torchrun` or Slurm started: NCCL on CUDA, gloo on a CPU.

    BasicSR's `init_dist` knows NCCL only, and takes the GPU from the rank instead of the local rank.

    Args:
        launcher: "none" (does nothing), "pytorch" (torchrun) or "slurm".
        port: The master's port under Slurm; None: MASTER_PORT, or 29500.
        timeout: How long a process waits for the others before it fails.

    Raises:
        UserError: The launcher's environment variables are missing.
    """
    if launcher == "none":
        return
    if launcher == "slurm":
        _export_slurm(port)
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"--launcher {launcher}: {', '.join(missing)} not set; "
            "start with torchrun --nproc_per_node=N -m semanir_plugin.cli train ... --launcher pytorch"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])) % torch.cuda.device_count())
    store, rank, world_size = next(rendezvous("env://", timeout=timeout))
    # Processes that torchrun starts again find the store of the first ones, and there the addresses of the dead.
    store = dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    atexit.register(_leave)


def _leave() -> None:
    """Join the threads of all process groups, before Python ends.

    A thread of gloo lets go of an exchange's tensors after the exchange, for which it takes Python's lock; if Python
    has ended by then, the whole process aborts, with all its work done.
    """
    if not dist.is_initialized():
        return
    gc.collect()  # models and loops, each with a reference to a group
    thread = threading.Thread(target=dist.destroy_process_group, daemon=True)
    with contextlib.suppress(RuntimeError):  # Python 3.12.0 and 3.12.1 start no thread here
        thread.start()
        thread.join(_LEAVING)


def _export_slurm(port: int | None) -> None:
    """Set torch's environment variables from Slurm's."""
    try:
        nodes = os.environ["SLURM_NODELIST"]
        os.environ.update(
            RANK=os.environ["SLURM_PROCID"],
            WORLD_SIZE=os.environ["SLURM_NTASKS"],
            LOCAL_RANK=os.environ.get("SLURM_LOCALID", "0"),
        )
        names = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    except (KeyError, OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"--launcher slurm: not inside a Slurm step ({error}); start with srun") from error
    os.environ["MASTER_ADDR"] = names.stdout.split()[0]
    os.environ["MASTER_PORT"] = str(port or os.environ.get("MASTER_PORT", 29500))


@contextlib.contextmanager
def detecting_lost_processes(
    remedy: str = "if a disk is slow, or a validation long, raise dist_params.timeout, in minutes",
) -> Iterator[None]:
    """Tell a failed exchange with another process, whose own message says more, from a failure of this one.

    Args:
        remedy: What to do where no process has failed.

    Raises:
        LostProcessError: An exchange over gloo failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not dist.is_initialized() or not (words := _LOST.search(str(error))):
            raise
        cause = "another process of the run has failed, as it may have said, or did not answer in time"
        raise LostProcessError(f"{cause}: {remedy} ({words[0].lower()})") from error


def report_failure(error: BaseException) -> None:
    """Leave for torchrun, which shows that of the first process that failed, a traceback, or a `UserError`'s message.

    The file is laid out as torch's `ErrorHandler` does it. To be called while `error` is handled.
    """
    if isinstance(error, LostProcessError):  # the consequence of another's
        return
    shown = str(error) if isinstance(error, UserError) else traceback.format_exc()
    extra = {"py_callstack": shown, "timestamp": str(int(time.time()))}
    content = json.dumps({"message": {"message": one_line(error), "extraInfo": extra}})
    with contextlib.suppress(OSError):
        write_atomic(content.encode(), os.environ["TORCHELASTIC_ERROR_FILE"])
