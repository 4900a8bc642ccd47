"""Networks built without memory for their weights, to find what their constructors refuse before any work."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from semanir_plugin.inference.construction_limits import LimitedTensors, TooLargeError

__all__ = ["find_refusal"]

MOST_TENSORS = 10_000
"""Ten times as many as the largest networks of restoration have: a typing error, which would take long to build."""
REMEMBERED = 256
"""Networks that were built and are not again: leaderboards, and files that differ elsewhere, name one several times."""
LARGEST = 2**28
"""Values of a network that is built with memory where it cannot be without."""


def find_refusal(target: Callable[..., Any], options: Mapping[str, Any]) -> Exception | None:
    """Return what a network's constructor raises of options that are right one by one; None where it raises nothing.

    Files that are missing are no refusal: they are told where they are read. A network of more tensors than any that
    is trained is one, and so are tables that fill the memory.

    Args:
        target: The constructor.
        options: Its arguments.
    """
    network = (target, repr(options))
    if network in _built:
        return None
    sketch = _WithoutWeights()
    error = _try(target, options, sketch)
    if error is not None and not isinstance(error, TooLargeError):  # of what weights without memory cannot do, perhaps
        error = _try(target, options, LimitedTensors(made=None)) if sketch.values < LARGEST else None
    if error is None:
        _remember(network)
    return None if isinstance(error, OSError) else error


_built: dict[tuple[Callable[..., Any], str], None] = {}


def _remember(network: tuple[Callable[..., Any], str]) -> None:
    """Remember a network that can be built; none that cannot, for which what it lacks may yet be registered."""
    _built[network] = None
    if len(_built) > REMEMBERED:
        del _built[next(iter(_built))]


def _try(target: Callable[..., Any], options: Mapping[str, Any], mode: LimitedTensors) -> Exception | None:
    try:
        # Constructors draw and print; a run draws what it would have drawn.
        quiet = contextlib.redirect_stdout(io.StringIO())
        with mode, torch.random.fork_rng(devices=[]), quiet:
            target(**options)
    except Exception as error:
        return error
    return None


class _WithoutWeights(LimitedTensors):
    """Mode in which new tensors have a shape and no memory, but for those that are computed from numbers.

    To fill or scale one that has no memory, as initialisations do, takes no time.
    """

    FILLS: ClassVar = {
        getattr(torch.Tensor, name)
        for name in ("add_", "clamp_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_")
    }

    def __init__(self) -> None:
        super().__init__(made=None)
        self.tensors = self.values = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.FILLS and args[0].is_meta and not any(isinstance(each, torch.Tensor) for each in args[1:]):
            return args[0]
        if func in self.MADE and kwargs.get("device") is None:
            return self._count(func(*args, **{**kwargs, "device": "meta"}))
        return super().__torch_function__(func, types, args, kwargs)

    def _count(self, tensor: Tensor) -> Tensor:
        self.tensors += 1
        self.values += tensor.numel()
        if self.tensors > MOST_TENSORS:
            raise TooLargeError(f"they ask for more than {MOST_TENSORS:,} tensors of weights")
        return tensor
