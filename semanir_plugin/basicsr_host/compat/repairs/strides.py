"""Repairs of what views its input, and so needs it in standard strides."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from basicsr.archs.discriminator_arch import VGGStyleDiscriminator
from basicsr.utils import img_process_util
from torch import Tensor

from semanir_plugin.basicsr_host.compat.repairs.table import Repair, modules_with

__all__ = ["REPAIRS"]


_judge = inspect.unwrap(VGGStyleDiscriminator.forward)


@functools.wraps(_judge)
def judge_any_strides(self: Any, x: Tensor) -> Tensor:
    """`VGGStyleDiscriminator` dies of a channels-last image: `view size is not compatible`.

    SwinIR and other transformers return such, as their features are tokens; convolutions keep the strides up to where
    features are viewed.
    """
    judgement: Tensor = _judge(self, x.contiguous())
    return judgement


_filter2d = inspect.unwrap(img_process_util.filter2D)


@functools.wraps(_filter2d)
def filter_any_strides(img: Tensor, kernel: Tensor) -> Tensor:
    """`filter2D` views its image, which on a CPU is channels last where a JPEG compression went before."""
    out: Tensor = _filter2d(img.contiguous(), kernel)
    return out


REPAIRS: tuple[Repair, ...] = (
    (VGGStyleDiscriminator, "forward", judge_any_strides),
    *((module, "filter2D", filter_any_strides) for module in modules_with("filter2D")),
)
