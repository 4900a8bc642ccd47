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

    Files that are missing are no refusal: they are told where they are read.

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
    except Exception as error:
        return error
    return None


class _WithoutWeights(TorchFunctionMode):
    """Mode in which new tensors have a shape and no memory, but for those that are computed from numbers."""

    FACTORIES: ClassVar = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.FACTORIES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)
