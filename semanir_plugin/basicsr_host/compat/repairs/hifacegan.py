"""Repairs of HiFaceGAN's model."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from basicsr.models.hifacegan_model import HiFaceGANModel
from basicsr.models.sr_model import SRModel

from semanir_plugin.basicsr_host.compat.repairs.table import Repair

__all__ = ["REPAIRS"]

_init_training = inspect.unwrap(HiFaceGANModel.init_training_settings)


@functools.wraps(_init_training)
def init_with_discriminator(self: Any) -> None:
    """`HiFaceGANModel` never loads its discriminator: every resume began with a new one."""
    _init_training(self)
    paths = self.opt["path"]
    if paths.get("pretrain_network_d"):
        strict, key = paths.get("strict_load_d", True), paths.get("param_key_d", "params")
        self.load_network(self.net_d, paths["pretrain_network_d"], strict, key)


def validate_as_others(self: Any, *args: Any) -> None:
    """`nondist_validation` gives metrics what none takes; the model evades it, but not where it is distributed."""
    SRModel.nondist_validation(self, *args)


REPAIRS: tuple[Repair, ...] = (
    (HiFaceGANModel, "init_training_settings", init_with_discriminator),
    (HiFaceGANModel, "nondist_validation", validate_as_others),
)
