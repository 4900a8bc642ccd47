"""Joining the other processes of a run."""

from __future__ import annotations

import datetime
import os
import subprocess

import torch
import torch.distributed as dist

from semanir_plugin.errors import UserError

__all__ = ["init_distributed"]

# The other processes wait while the first one validates.
TIMEOUT = datetime.timedelta(hours=6)


def init_distributed(launcher: str, *, port: int | None = None) -> None:
    """Join the process group that `torchrun` or Slurm started: NCCL on CUDA, gloo on a CPU.

    BasicSR's `init_dist` knows NCCL only, and takes the GPU from the rank instead of the local rank.

    Args:
        launcher: "none" (does nothing), "pytorch" (torchrun) or "slurm".
        port: The master's port under Slurm; None: MASTER_PORT, or 29500.

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
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)


def _export_slurm(port: int | None) -> None:
    """Say in torch's words what Slurm says in its own."""
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
