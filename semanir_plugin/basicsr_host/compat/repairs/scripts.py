"""Repairs of BasicSR's own `train_pipeline`, for whoever calls it in place of `basicsr train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from basicsr.utils import check_resume

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.basicsr_host.compat.state_form import check_state
from semanir_plugin.inference.safe_loading import load_checkpoint

__all__ = ["REPAIRS"]


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """`load_resume_state` resumes on CUDA alone, executes what a state says, and looks for it below other folders.

    With `--auto_resume` that is the working directory, while states go below the root of the pipeline.
    """
    if opt["auto_resume"]:
        saved = [path for path in Path(opt["path"]["training_states"]).glob("*.state") if path.stem.isdecimal()]
        newest = max(saved, key=lambda path: int(path.stem), default=None)
        opt["path"]["resume_state"] = None if newest is None else str(newest)
    if not opt["path"].get("resume_state"):
        return None
    path = opt["path"]["resume_state"]
    state = check_state(load_checkpoint(path), path)
    check_resume(opt, state["iter"])
    return state


REPAIRS: tuple[Repair, ...] = ((sys.modules["basicsr.train"], "load_resume_state", load_resume_state),)
