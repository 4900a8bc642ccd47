"""Guard against steps whose loss or gradients are not finite: skipped and counted; too many in a row end a training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.errors import UserError

__all__ = ["FiniteSteps"]


class FiniteSteps:
    """Check of a training's steps, and account of those skipped.

    Args:
        most_in_a_row: Steps left out in a row that end the training.
        report: Where the images of those steps are named when it ends.
        distributed: Whether other processes take part, all of which leave out a step that one of them cannot take.
    """

    def __init__(self, *, most_in_a_row: int, report: Path, distributed: bool = False) -> None:
        self.most_in_a_row = most_in_a_row
        self.report = report
        self.distributed = distributed
        self.left_out = 0
        self.in_a_row: list[dict[str, Any]] = []

    def allow(self, losses: Iterable[Tensor], gradients: list[Tensor]) -> bool:
        """Return whether a step's losses and gradients are finite; waits for the device once."""
        values = [loss.float() for loss in losses]
        if gradients:
            values += [norm.float() for norm in torch._foreach_norm(gradients)]
        finite = torch.stack(values).sum().isfinite().float()
        if self.distributed:
            torch.distributed.all_reduce(finite, op=torch.distributed.ReduceOp.MIN)
        allowed = bool(finite.item())
        if allowed:
            self.in_a_row.clear()
        return allowed

    def skip(self, iteration: int, losses: Mapping[str, Tensor], images: Mapping[str, Sequence[str]]) -> None:
        """Count a skipped step.

        Raises:
            UserError: It is one too many in a row; their images are named in the report.
        """
        values = {name: str(float(loss)) for name, loss in losses.items()}
        self.left_out += 1
        self.in_a_row.append({"iteration": iteration, "losses": values, "images": dict(images)})
        count, told = len(self.in_a_row), ", ".join(f"{name} {value}" for name, value in values.items())
        get_root_logger().warning(
            f"Iteration {iteration:,}: loss or gradients are not finite ({told}), so its step is left out: "
            f"{count:,} in a row, {self.left_out:,} in all."
        )
        if count >= self.most_in_a_row:
            write_atomic(json.dumps(self.in_a_row, indent=1).encode(), self.report)
            raise UserError(
                f"{count:,} steps in a row up to iteration {iteration:,} had a loss or gradients that are not finite; "
                f"{self.report} names their images: mend those, or lower the learning rate (train.max_nan_steps: "
                f"{self.most_in_a_row})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, as plain values."""
        return {"left_out": self.left_out, "in_a_row": [dict(each) for each in self.in_a_row]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the counts of a `state_dict`."""
        self.left_out, self.in_a_row = state["left_out"], [dict(each) for each in state["in_a_row"]]
