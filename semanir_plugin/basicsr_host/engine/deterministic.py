"""Deterministic mode: equal results of equal runs on one machine, or an error that names the op without them."""

from __future__ import annotations

import os

import torch
from basicsr.utils import get_root_logger

from semanir_plugin.errors import UserError

__all__ = ["log_workspace", "make_deterministic"]

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")
"""Settings with which cuBLAS is deterministic, by its documentation; the first is the faster one."""


def make_deterministic() -> None:
    """Make torch use deterministic algorithms, and refuse ops that have none.

    On a GPU cuBLAS must be told too, by an environment variable that it reads when CUDA starts: it is set here, where
    nobody else has.

    Raises:
        UserError: cuBLAS has been told otherwise, or CUDA has started without.
    """
    if torch.cuda.is_available():
        _choose_workspace()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True


def _choose_workspace() -> None:
    chosen = os.environ.get(VARIABLE)
    if chosen is None and torch.cuda.is_initialized():
        raise UserError(f"deterministic: CUDA has started without it: set {VARIABLE}={WORKSPACES[0]} beforehand")
    if chosen is not None and chosen not in WORKSPACES:
        raise UserError(f"deterministic: {VARIABLE}={chosen} is neither {' nor '.join(WORKSPACES)}: unset it")
    os.environ[VARIABLE] = chosen or WORKSPACES[0]


def log_workspace() -> None:
    """Log the cuBLAS workspace, on which a deterministic run depends."""
    workspace = f"{VARIABLE}={os.environ[VARIABLE]}" if torch.cuda.is_available() else "on the CPU"
    get_root_logger().info(f"Deterministic algorithms only ({workspace}).")
