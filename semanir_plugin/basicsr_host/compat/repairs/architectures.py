"""Repairs of BasicSR's architectures."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from basicsr.archs.basicvsrpp_arch import BasicVSRPlusPlus
from basicsr.archs.spynet_arch import SpyNet
from torch import Tensor

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.errors import UserError
from semanir_plugin.torchvision_repair import swapped

__all__ = ["REPAIRS"]

SPYNET_LEAST = 32  # halved five times, of which the smallest is halved again

_init_basicvsrpp = inspect.unwrap(BasicVSRPlusPlus.__init__)


@functools.wraps(_init_basicvsrpp)
def init_with_alignment(self: Any, *args: Any, **kwargs: Any) -> None:
    """`BasicVSRPlusPlus` leaves its alignment out where there is no CUDA, and cannot load what was trained with it."""
    with swapped(vars(torch.cuda), "is_available", lambda: True):
        _init_basicvsrpp(self, *args, **kwargs)


_forward_basicvsrpp = inspect.unwrap(BasicVSRPlusPlus.forward)


@functools.wraps(_forward_basicvsrpp)
def forward_on_any_device(self: Any, lqs: Tensor) -> Any:
    """`BasicVSRPlusPlus` keeps long clips in the CPU's memory and takes them to CUDA again, from a CPU as well."""
    if not lqs.is_cuda:
        self.cpu_cache_length = max(self.cpu_cache_length, lqs.size(1))
    return _forward_basicvsrpp(self, lqs)


_forward_spynet = inspect.unwrap(SpyNet.forward)


@functools.wraps(_forward_spynet)
def forward_of_size(self: Any, ref: Tensor, supp: Tensor) -> Tensor:
    """`SpyNet` makes frames of 32 pixels and less into ones without any, of which interpolation dies.

    Raises:
        UserError: The frames are as small as that.
    """
    height, width = ref.shape[-2:]
    if min(height, width) <= SPYNET_LEAST:
        message = f"SpyNet needs frames of more than {SPYNET_LEAST} pixels a side, not {height} x {width}"
        raise UserError(f"{message}; use larger patches (gt_size) or frames")
    flow: Tensor = _forward_spynet(self, ref, supp)
    return flow


REPAIRS: tuple[Repair, ...] = (
    (SpyNet, "forward", forward_of_size),
    (BasicVSRPlusPlus, "__init__", init_with_alignment),
    (BasicVSRPlusPlus, "forward", forward_on_any_device),
)
