"""Mixed precision and gradient clipping around an optimiser, on mmengine's wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from semanir_plugin.errors import UserError

__all__ = ["build_optim_wrapper"]


class _ClippingWrapper(OptimWrapper):
    """Wrapper that clips gradients without copying the norm to the host each step, as mmengine's does for its hub."""

    def _clip_grad(self) -> None:
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(params, **self.clip_grad_kwargs)


class _Float16Wrapper(_ClippingWrapper, AmpOptimWrapper):
    """fp16 autocast with dynamic loss scaling (CUDA)."""


class _BFloat16Wrapper(_ClippingWrapper):
    """bf16 autocast, which needs no loss scaling, on CUDA and on CPUs, where mmengine's own declines."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16):
            yield


def build_optim_wrapper(
    optimizer: torch.optim.Optimizer, *, amp: str | bool | None, grad_clip: float | None, device: torch.device
) -> OptimWrapper:
    """Wrap an optimiser for training in the given precision.

    Args:
        optimizer: The optimiser.
        amp: "bf16", "fp16" (CUDA only, with dynamic loss scaling), or None (`off` in YAML: False) for fp32.
        grad_clip: Largest L2 norm of all gradients together; None: no limit.
        device: Where the network lives.

    Raises:
        UserError: `amp` is unknown, or fp16 is asked for on a CPU.
    """
    kwargs: dict[str, Any] = {"optimizer": optimizer}
    if grad_clip is not None:
        kwargs["clip_grad"] = {"max_norm": float(grad_clip)}
    if not amp:
        return _ClippingWrapper(**kwargs)
    if amp == "bf16":
        return _BFloat16Wrapper(**kwargs)
    if amp != "fp16":
        raise UserError(f"train.amp: {amp!r} is unknown; use bf16, fp16 or ~ (off)")
    if device.type != "cuda":
        raise UserError("train.amp: fp16 needs a CUDA device; use bf16 or ~ (off)")
    return _Float16Wrapper(dtype="float16", loss_scale="dynamic", **kwargs)
