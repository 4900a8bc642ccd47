"""Networks built without memory for their weights, to find what their constructors refuse before any work."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["find_refusal"]


def find_refusal(target: Callable[..., Any], options: Mapping[str, Any]) -> Exception | None:
    """Return what a network's constructor raises of options that are right one by one; None where it raises nothing.

    Files that are missing are no refusal: they are told where they are read. A network of more tensors than any that
    is trained is not built to its end: that would take as long as to train it a while.

    Args:
        target: The constructor.
        options: Its arguments.
    """
    error = _try(target, options, _WithoutWeights())
    if error is not None:  # of what weights without memory cannot do, perhaps
        error = _try(target, options, contextlib.nullcontext())
    return None if isinstance(error, OSError) else error


def _try(target: Callable[..., Any], options: Mapping[str, Any], mode: Any) -> Exception | None:
    try:
        # Constructors draw and print; a run draws what it would have drawn.
        with mode, torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
            target(**options)
    except _EnoughError:
        return None
    except Exception as error:
        return error
    return None


class _EnoughError(Exception):
    """Error that ends the construction of a network that is larger than any."""


class _WithoutWeights(TorchFunctionMode):
    """Mode in which new tensors have a shape and no memory, but for those that are computed from numbers.

    To fill or scale one that has no memory, as initialisations do, takes no time.
    """

    FACTORIES: ClassVar = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}
    FILLS: ClassVar = {
        getattr(torch.Tensor, name)
        for name in ("add_", "clamp_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_")
    }

    MOST = 20_000  # tensors

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.FILLS and args[0].is_meta and not any(isinstance(each, torch.Tensor) for each in args[1:]):
            return args[0]
        if func in self.FACTORIES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
            self.made += 1
            if self.made > self.MOST:
                raise _EnoughError
        return func(*args, **kwargs)
