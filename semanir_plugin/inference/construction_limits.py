"""Networks that are built of options which came with weights: no larger than the weights that are there."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

__all__ = ["LimitedTensors", "TooLargeError", "no_larger_than"]

SPARE = 1_000_000
"""Values by which a network may exceed its weights: for what does not fit them to be told as such."""

SPARE_TENSORS = 1_000

LARGEST_TABLE = 2**26
"""Values of a tensor that is computed, such as the distances of all pairs of places in a window."""

LONGEST_RAMP = 2**16
"""Values of what rises evenly, such as the rates of layers, which constructors take one by one."""


class TooLargeError(ValueError):
    """Error that options ask for a network that would fill the memory."""


@contextlib.contextmanager
def no_larger_than(weights: Mapping[str, Any]) -> Iterator[None]:
    """Stop the construction of a network, before it takes memory or time, where it becomes larger than its weights.

    Args:
        weights: That it is to hold.

    Raises:
        TooLargeError: It has many more parameters, or larger tensors.
    """
    tensors = [value for value in weights.values() if isinstance(value, Tensor)]
    budget = _Budget(SPARE + sum(each.numel() for each in tensors), SPARE_TENSORS + 2 * len(tensors))
    hook = register_module_parameter_registration_hook(budget.take)
    try:
        with LimitedTensors(made=max(budget.values, LARGEST_TABLE)):
            yield
    finally:
        hook.remove()


class _Budget:
    """Values and tensors that the parameters of a network may still have."""

    def __init__(self, values: int, tensors: int) -> None:
        self.values, self.tensors = values, tensors

    def take(self, module: nn.Module, name: str, parameter: Any) -> None:
        if isinstance(parameter, Tensor):
            self.values -= parameter.numel()
            self.tensors -= 1
        if min(self.values, self.tensors) < 0:
            raise TooLargeError("they ask for more weights than the file has")


class LimitedTensors(TorchFunctionMode):
    """Mode in which a tensor of too many values is refused before it is made.

    Args:
        made: Values of one that is filled, as weights are before they are loaded; None: any number.
        computed: Values of one that is counted up, or that has a value for each pair of others.

    Raises:
        TooLargeError: A tensor would have more.
    """

    MADE: ClassVar = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}
    COUNTED: ClassVar = {torch.arange, torch.linspace}
    PAIRED: ClassVar = {Tensor.add, Tensor.mul, Tensor.sub, torch.add, torch.mul, torch.sub}

    def __init__(self, *, made: int | None, computed: int = LARGEST_TABLE) -> None:
        super().__init__()
        self.made, self.computed = made, computed

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        most = self.made if func in self.MADE else LONGEST_RAMP if func is torch.linspace else self.computed
        if most is not None and (count := self._count_values(func, args, kwargs)) > most:
            raise TooLargeError(f"they ask for a tensor of {count:,} values, which may have {most:,}")
        return func(*args, **kwargs)

    def _count_values(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Return the number of values that what a function returns will have; 0 of a function that is not bounded."""
        if func in self.COUNTED:
            return _count_up(func, args, kwargs)
        if func in self.MADE:
            return int(func(*args, **{**kwargs, "device": "meta"}).numel())
        tensors = [each for each in args if isinstance(each, Tensor)]
        if func in self.PAIRED and len(tensors) == 2:
            return math.prod(torch.broadcast_shapes(*(each.shape for each in tensors)))
        if func is torch.meshgrid:
            return math.prod(each.numel() for each in (tensors or args[0]))
        return 0


def _count_up(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return the number of values of `arange` and `linspace`, which on the device meta import PyTorch's compiler."""
    if func is torch.linspace:
        return int(args[2] if len(args) > 2 else kwargs["steps"])
    names = ("end",) if len(args) == 1 else ("start", "end", "step")
    given = {"start": 0, "step": 1, **dict(zip(names, args, strict=False)), **kwargs}
    try:
        result: int = max(0, math.ceil((given["end"] - given["start"]) / given["step"]))
        return result
    except (ArithmeticError, ValueError):  # a step of 0, or values that are no numbers, which torch tells
        return 0
