"""Validations of a training: when they are due, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from semanir_plugin.basicsr_host.engine.host_options import SAMPLING_MODELS
from semanir_plugin.basicsr_host.engine.run import Run
from semanir_plugin.errors import UserError, one_line

__all__ = ["Validations"]


class Validations:
    """Validations of a model on all validation sets.

    A checkpoint comes before the validation of its iteration, and says whether that is still to be done; so nothing is
    lost by one that fails, and a run that is resumed there does it first.

    Args:
        run: The run.
        model: A BasicSR model.
        loaders: The validation sets; none are used where the options have no section `val`.
        done_at: Iteration of the last validation.
    """

    def __init__(self, run: Run, model: Any, loaders: Sequence[DataLoader[Any]], *, done_at: int = -1) -> None:
        self.opt = run.opt
        self.logger = run.logger
        self.model = model
        nothing: list[Any] = [None] * (run.opt["model_type"] in SAMPLING_MODELS)
        self.loaders = (loaders or nothing) if run.opt.get("val") else []
        self.done_at = done_at

    def due_at(self, iteration: int) -> bool:
        """Return whether the validation of an iteration is still to be done; the last one has one in any case."""
        total_iter = self.opt["train"]["total_iter"]
        if not self.loaders or iteration == self.done_at:
            return False
        result: bool = iteration == total_iter or iteration % self.opt["val"].get("val_freq", total_iter) == 0
        return result

    def validate(self, iteration: int, tb_logger: Any) -> None:
        """Validate on each set.

        Raises:
            UserError: Something failed; the message says how to go on without.
        """
        try:
            for loader in self.loaders:
                self.model.validation(loader, iteration, tb_logger, self.opt["val"]["save_img"])
        except Exception as error:
            self.logger.debug("Validation failed.", exc_info=error)
            raise UserError(
                f"the validation of iteration {iteration:,} failed: {one_line(error)}; mend it and go on with "
                "--auto_resume, or without validation with --auto_resume --force_yml val=~"
            ) from error
        self.done_at = iteration
