"""Decide what Python code may do where no compiler, trace or transform looks on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = [
    "TRANSFORM_REASON",
    "are_plain",
    "differentiated_by_transform",
    "in_torch_func",
    "run_op",
    "values_may_decide",
]

TRANSFORM_REASON = "torch.func and forward-mode derivatives know PyTorch's own operators alone"


def values_may_decide(tensors: Sequence[Tensor]) -> bool:
    """Tell whether code may branch on tensors' values: on a CPU, and in no trace, which would keep the branch.

    Elsewhere the program would wait for the device. Within `torch.vmap` and the like one tensor stands for many.
    """
    # In this order: the compiler cannot trace the later questions. Every op asks, so they are asked in few steps.
    if torch.compiler.is_compiling() or torch._C._is_tracing() or is_in_torch_dispatch_mode():
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    for tensor in tensors:  # noqa: SIM110
        if not tensor.is_cpu:
            return False
    return True


def in_torch_func() -> bool:
    """Tell whether a transform of `torch.func` looks on: `vmap`, `grad` and the like."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def differentiated_by_transform() -> bool:
    """Tell whether `torch.func` (grad, vjp, jvp) or `torch.autograd.forward_ad` takes derivatives here.

    Registered ops raise errors there, or give derivatives of 0.
    """
    if torch.compiler.is_compiling():
        return False
    if forward_ad._current_level >= 0:
        return True
    derivatives = (torch._C._functorch.TransformType.Grad, torch._C._functorch.TransformType.Jvp)
    return any(each.key() in derivatives for each in torch._C._functorch.get_interpreter_stack() or ())


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Tell whether code outside PyTorch may read these: numbers in the memory of a CPU, and nobody looks on.

    Not so are tensors of a class of their own, others than strided ones, those whose sign is yet to be changed, zeros
    without memory, and all of them while derivatives are carried forward (`torch.autograd.forward_ad`).
    """
    if forward_ad._current_level >= 0 or not values_may_decide(tensors):
        return False
    for tensor in tensors:
        if type(tensor) is not Tensor and type(tensor) is not Parameter:
            return False
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_neg():
            return False
        if tensor._is_zerotensor():
            return False
        # As torch.autograd.grad(is_grads_batched=True) makes them.
        if torch._C._functorch.is_legacy_batchedtensor(tensor):
            return False
    return True


def run_op(op: Any, *inputs: Any) -> Any:
    """Call a registered op; in inference on a CPU, the function behind it, past PyTorch's dispatcher.

    The dispatcher takes some tens of microseconds for each call, and a second for the first one of a process, in which
    PyTorch imports its compiler.

    Args:
        op: What `torch.library.custom_op` returned.
        *inputs: Its arguments.
    """
    tensors = [each for each in inputs if isinstance(each, Tensor)]
    if not are_plain(tensors):
        return op(*inputs)
    if torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
        return op(*inputs)
    return getattr(op, "_init_fn", op)(*inputs)
