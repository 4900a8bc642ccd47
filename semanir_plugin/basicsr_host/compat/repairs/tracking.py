"""Repairs of how BasicSR starts to track a training in Weights & Biases."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.errors import UserError

__all__ = ["REPAIRS"]


@master_only
def init_wandb_logger(opt: Mapping[str, Any]) -> None:
    """`init_wandb_logger` takes a new run's id from `wandb.util.generate_id`, which is gone, and so fails.

    The run follows what is written for TensorBoard.

    Raises:
        UserError: Weights & Biases does not start the run: nobody is logged in, the id is unknown, no network.
    """
    import wandb

    project, resume_id = (opt["logger"]["wandb"].get(key) for key in ("project", "resume_id"))
    try:
        run = wandb.init(
            id=resume_id,
            resume="allow" if resume_id else "never",
            name=opt["name"],
            config=dict(opt),
            project=project,
            sync_tensorboard=True,
        )
    except wandb.errors.Error as error:
        raise UserError(
            f"logger:wandb: {str(error).rstrip('.')}; or set WANDB_MODE=offline, and `wandb sync` it later"
        ) from error
    get_root_logger().info(f"Use wandb logger with id={run.id}; project={project}.")


# BasicSR's modules that have imported it by name.
USERS = [
    module for name, module in sys.modules.items() if name.startswith("basicsr") and "init_wandb_logger" in vars(module)
]
REPAIRS: tuple[Repair, ...] = tuple((module, "init_wandb_logger", init_wandb_logger) for module in USERS)
