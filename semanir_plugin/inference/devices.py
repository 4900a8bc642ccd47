"""Choose the device that a network runs on."""

from __future__ import annotations

import torch

from semanir_plugin.errors import UserError, one_line

__all__ = ["choose_device"]


def choose_device(name: str | None, *, asked: str = "--device") -> torch.device:
    """Return a device after checking it; for None, a GPU where there is one, else the CPU.

    Args:
        name: Of the device.
        asked: Where the user names it, for messages.

    Raises:
        UserError: There is no such device here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).cpu()
    except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError
        raise UserError(f"{asked} {name}: {one_line(error).partition('. ')[0]}; 'cpu' is always there") from error
    return device
