"""Form of a training state, which may be of another program or a stranger's: checked before anything uses it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal

from torch import Tensor

from semanir_plugin.errors import UserError
from semanir_plugin.inference.plain_options import plain_options
from semanir_plugin.schema.forms import Each, Form, IfThere, form_problem
from semanir_plugin.schema.values import FromZero, Range

__all__ = ["REMEMBERED", "check_state"]

REMEMBERED = ("queue_lr", "queue_gt", "queue_ptr", "mean_path_length")
"""Attributes in which models remember something between iterations: the pool of RealESRNet and Real-ESRGAN, and the
mean length of paths of StyleGAN2."""

_BEST: Form = {"val": Real, "iter": Annotated[int, Range(least=-1)], "better": Literal["higher", "lower"]}

_STEP_LEFT_OUT: Form = {"iteration": FromZero, "losses": Each(str), "images": Each([str])}

# What BasicSR writes, what the engine adds, and what the models add.
FORM: Form = {
    "iter": FromZero,
    "epoch": IfThere(FromZero),
    "optimizers": [{"state": Each(Each((Tensor, Real, list, NoneType))), "param_groups": [{"params": [FromZero]}]}],
    "schedulers": [Mapping],
    "validated": IfThere(bool),
    "train_options": IfThere(Mapping),
    "memories": IfThere([dict.fromkeys(REMEMBERED, IfThere((Tensor, Mapping, Real)))]),
    "best_metric_results": IfThere(Each(Each(_BEST))),
    "protocol": IfThere(str | NoneType),
    "loss_scaler": IfThere((Mapping, NoneType)),
    "rng": IfThere({"python": list, "numpy": list, "torch": Tensor}),
    "finite_steps": IfThere({"left_out": FromZero, "in_a_row": [_STEP_LEFT_OUT]}),
}


def check_state(state: Any, path: str | Path) -> dict[str, Any]:
    """Return a training state with the entries that it can have, after checking their form.

    Raises:
        UserError: It is none, or an entry has another form.
    """
    if not isinstance(state, Mapping) or not {"iter", "optimizers", "schedulers"} <= state.keys():
        raise UserError(f"{path} is not a training state; name a file of a training_states folder")
    if problem := form_problem(state, FORM):
        raise UserError(f"{path}: {problem}; name another training state, or one that is as it was written")
    if "train_options" not in state:
        return dict(state)
    return {**state, "train_options": plain_options(state["train_options"], path, "train_options")}
