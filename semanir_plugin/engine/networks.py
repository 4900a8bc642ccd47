"""What commands about a single network read: its options in an option file, and where it is to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from semanir_plugin.engine.options import apply_overrides, load_options
from semanir_plugin.errors import UserError, one_line

__all__ = ["choose_device", "read_network"]


def choose_device(name: str | None) -> torch.device:
    """Return a device that works; None: a GPU where there is one, else the CPU.

    Raises:
        UserError: There is no such device here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).cpu()
    except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError
        raise UserError(f"--device {name}: {one_line(error).partition('. ')[0]}; 'cpu' is always there") from error
    return device


def read_network(path: str, force_yml: Sequence[str] = ()) -> dict[str, Any]:
    """Return the `network_g` of an option file, of which nothing else need be right.

    Raises:
        UserError: The file cannot be read, or has none.
    """
    network = apply_overrides(load_options(path), force_yml).data.get("network_g")
    if not isinstance(network, dict) or not isinstance(network.get("type"), str):
        raise UserError(f"{path}: has no network_g with a type; name the option file of a network")
    return network
