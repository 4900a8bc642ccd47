"""Check whether Python code may branch on the values of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["values_may_decide"]


def values_may_decide(tensors: Sequence[Tensor]) -> bool:
    """Tell whether code may branch on tensors' values: on a CPU, and in no trace, which would keep the branch.

    Elsewhere the program would wait for the device. Within `torch.vmap` and the like one tensor stands for many.
    """
    # In this order: the compiler cannot trace the later questions.
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or is_in_torch_dispatch_mode()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or any(tensor.device.type != "cpu" for tensor in tensors)
    )
