"""Repairs of how BasicSR's models average networks and take them to their device."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.hifacegan_model import HiFaceGANModel
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from semanir_plugin.basicsr_host.compat.repairs.table import Repair

__all__ = ["REPAIRS"]


@torch.no_grad()
def model_ema(self: Any, decay: float = 0.999) -> None:
    """`model_ema` skips buffers, so that an averaged network keeps the batch statistics it was initialised with.

    On GPUs it launches two kernels for each parameter, hundreds in each iteration.
    """
    net = self.get_bare_model(self.net_g)
    parameters, buffers = dict(net.named_parameters()), dict(net.named_buffers())
    averages = dict(self.net_g_ema.named_parameters())
    if averages:
        torch._foreach_mul_(list(averages.values()), decay)
        torch._foreach_add_(list(averages.values()), [parameters[name] for name in averages], alpha=1 - decay)
    persistent = self.net_g_ema.state_dict().keys()
    for name, buffer in self.net_g_ema.named_buffers():
        if name in persistent:
            buffer.copy_(buffers[name])


def model_to_device(self: Any, net: nn.Module) -> nn.Module:
    """`model_to_device` asks for a CUDA device whenever it is distributed, on CPUs too, and wraps what cannot learn."""
    net = net.to(self.device)
    if self.opt["dist"] and any(parameter.requires_grad for parameter in net.parameters()):
        device_ids = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        unused = self.opt.get("find_unused_parameters", False)
        return DistributedDataParallel(net, device_ids=device_ids, find_unused_parameters=unused)
    return DataParallel(net) if self.opt["num_gpu"] > 1 and not self.opt["dist"] else net


def on_bare_networks(validation: Callable[..., None]) -> Callable[..., None]:
    """`validation` passes images through the wrapped network, which has the processes exchange its buffers each time.

    As they have different numbers of images to validate, or none, what they exchange gets out of step.
    """
    validation = inspect.unwrap(validation)

    @functools.wraps(validation)
    def wrapper(self: Any, *args: Any, **options: Any) -> None:
        wrapped = self.net_g
        self.net_g = self.get_bare_model(wrapped)
        try:
            validation(self, *args, **options)
        finally:
            self.net_g = wrapped

    return wrapper


REPAIRS: tuple[Repair, ...] = (
    (BaseModel, "model_ema", model_ema),
    (BaseModel, "model_to_device", model_to_device),
    *((model, "validation", on_bare_networks(model.validation)) for model in (BaseModel, HiFaceGANModel)),
)
