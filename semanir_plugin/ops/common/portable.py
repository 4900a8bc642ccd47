"""Networks in operators that other programs know: what ops and blocks do while a network is exported.

Exporters take a graph of PyTorch's own operators to theirs. They know nothing of our kernels, and heights and widths
are symbols to them, which no code may branch on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from semanir_plugin.ops.common.eager import TRANSFORM_REASON, differentiated_by_transform

__all__ = [
    "PORTABLE_REASON",
    "is_known",
    "only_standard_operators",
    "portable_ops",
    "remainder",
    "surely_equal",
    "undecided",
    "why_standard_operators",
]

PORTABLE_REASON = "the network is being exported, to programs that know standard operators alone"

_exporting: ContextVar[bool] = ContextVar("exporting", default=False)


@contextmanager
def portable_ops() -> Iterator[None]:
    """Within the block, "auto" stands for the backend of each op that is made of standard operators."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def only_standard_operators() -> bool:
    """Tell whether this runs within `portable_ops`."""
    # In this order: torch.compile, which no exporter goes through, cannot trace the later question.
    return not torch.compiler.is_dynamo_compiling() and _exporting.get()


def why_standard_operators() -> str | None:
    """Return why "auto" stands for the backend that is made of PyTorch's own operators, None if it need not."""
    if only_standard_operators():
        return PORTABLE_REASON
    return TRANSFORM_REASON if differentiated_by_transform() else None


def is_known(size: Any) -> bool:
    """Tell whether a size is a number, which code may branch on, and not a symbol of an exporter.

    `torch.jit.trace` gives sizes as tensors, which are those of the image it traces with.
    """
    return isinstance(size, int | Tensor)  # of torch.SymInt it is neither


def surely_equal(size: int, other: int) -> bool:
    """Tell whether two sizes are equal; of symbols, whether they are whatever these stand for."""
    if is_known(size) and is_known(other):
        return bool(size == other)
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(size == other)


def remainder(x: Tensor, divisor: int) -> Tensor:
    """Return x % divisor of whole numbers; a divisor that is a symbol becomes a tensor, as exporters want it."""
    return x % (divisor if is_known(divisor) else torch.full((), divisor, dtype=x.dtype, device=x.device))


def undecided(x: Tensor, size: int) -> Tensor:
    """Return whole numbers as they are, in a form that programs compute at each run, and not once as they load.

    Args:
        x: Whole numbers.
        size: A positive size; where it is no symbol, nothing can be left undecided.
    """
    if is_known(size):
        return x
    return x + torch.full((), size, dtype=x.dtype, device=x.device).clamp_max(0)
