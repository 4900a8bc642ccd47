"""Repairs of StyleGAN2: operators without compiled extensions, and samples of a trained generator."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

import torch
import torch.nn.functional as F
from basicsr.models.stylegan2_model import StyleGAN2Model
from torch import Tensor

from semanir_plugin.basicsr_host.compat.repairs.table import Repair, modules_with

__all__ = ["REPAIRS"]

_activation = sys.modules["basicsr.ops.fused_act.fused_act"]
_resampling = sys.modules["basicsr.ops.upfirdn2d.upfirdn2d"]
_fused_leaky_relu = inspect.unwrap(_activation.fused_leaky_relu)
_upfirdn2d = inspect.unwrap(_resampling.upfirdn2d)


@functools.wraps(_fused_leaky_relu)
def fused_leaky_relu(input: Tensor, bias: Tensor, negative_slope: float = 0.2, scale: float = 2**0.5) -> Tensor:
    """`fused_leaky_relu` needs an extension that BasicSR's wheel does not have, and that is for CUDA alone."""
    if input.is_cuda and hasattr(_activation, "fused_act_ext"):
        out: Tensor = _fused_leaky_relu(input, bias, negative_slope, scale)
        return out
    return F.leaky_relu(input + bias.view(1, -1, *[1] * (input.ndim - 2)), negative_slope) * scale


@functools.wraps(_upfirdn2d)
def upfirdn2d(input: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """`upfirdn2d` has a way without its extension, but takes it on CPUs only."""
    out: Tensor
    if input.is_cuda and hasattr(_resampling, "upfirdn2d_ext"):
        out = _upfirdn2d(input, kernel, up, down, pad)
    else:
        out = _resampling.upfirdn2d_native(input, kernel, up, up, down, down, *pad, *pad)
    return out


@torch.no_grad()
def sample(self: Any) -> None:
    """`test` asks for the averaged generator, which is there in training only."""
    net = getattr(self, "net_g_ema", None) or self.get_bare_model(self.net_g).eval()
    self.output, _ = net([self.fixed_sample])


_validate = inspect.unwrap(StyleGAN2Model.nondist_validation)


@functools.wraps(_validate)
def validate_without_images(self: Any, dataloader: Any, *args: Any) -> None:
    """`nondist_validation` refuses a set of images, which it has no use for; the training loop gives it one."""
    _validate(self, None, *args)


REPAIRS: tuple[Repair, ...] = (
    *((module, "fused_leaky_relu", fused_leaky_relu) for module in modules_with("fused_leaky_relu")),
    *((module, "upfirdn2d", upfirdn2d) for module in modules_with("upfirdn2d")),
    (StyleGAN2Model, "test", sample),
    (StyleGAN2Model, "nondist_validation", validate_without_images),
)
