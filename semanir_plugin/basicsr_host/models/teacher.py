"""The network that another learns from, beside the truth."""

from __future__ import annotations

import torch
from torch import nn

from semanir_plugin.archs import NetworkDescriptor
from semanir_plugin.errors import UserError
from semanir_plugin.inference.loading import load

__all__ = ["load_teacher"]


def load_teacher(name: str, student: NetworkDescriptor, device: torch.device) -> nn.Module:
    """Return a trained network, frozen and in evaluation mode, that makes of an image what its student makes of it.

    Args:
        name: As `semanir_plugin.load` takes it.
        student: What it has to fit.
        device: Where it goes.

    Raises:
        UserError: It cannot be loaded, or is for another scale or other channels.
    """
    try:
        teacher = load(name, device=device)
    except UserError as error:
        raise UserError(f"train:teacher: {error}") from error
    for what, own, wanted in (
        ("scale", teacher.descriptor.scale, student.scale),
        ("channels of inputs", teacher.descriptor.in_channels, student.in_channels),
        ("channels of results", teacher.descriptor.out_channels, student.out_channels),
    ):
        if own != wanted:
            raise UserError(f"train:teacher: {name} has {own} as its {what}, network_g {wanted}; name another")
    return teacher.module.requires_grad_(False)
