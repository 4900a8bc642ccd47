"""Networks in bf16 or fp16, whose results are still as fine as photographs of 16 bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["reduced_precision"]

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@contextmanager
def reduced_precision(network: nn.Module, device: str, dtype: torch.dtype) -> Iterator[None]:
    """Within the block, autocast to a precision, but for the network's last layer.

    That one makes the image, of which bf16 has 128 values from a half to one. It is taken for the last one registered,
    which is so in the architectures of the field; if it is another one, the result is as coarse as it would be.

    Args:
        network: Its weights are in fp32.
        device: Kind of device that the network is on.
        dtype: bf16 or fp16.
    """
    last = next((each for each in reversed(list(network.modules())) if isinstance(each, _LAYERS)), None)
    with torch.autocast(device, dtype):
        if last is None:
            yield
            return
        forward: Any = last.forward

        def in_full(x: Tensor) -> Tensor:
            with torch.autocast(device, enabled=False):
                out: Tensor = forward(x.float())
                return out

        vars(last)["forward"] = in_full  # hides its class's
        try:
            yield
        finally:
            del vars(last)["forward"]
