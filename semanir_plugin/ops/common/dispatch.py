"""Select the backend that runs an op."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from semanir_plugin.errors import printable

__all__ = ["pick_backend", "warn_of_slow_path"]

_logger = logging.getLogger(__name__)


def pick_backend(
    asked: str,
    known: Collection[str],
    choose: Callable[[], tuple[str, str]],
    why_not: Callable[[str], str | None],
) -> str:
    """Return the name of the backend to run.

    Args:
        asked: The name of one, or "auto".
        known: The names there are.
        choose: Returns what "auto" stands for, and why.
        why_not: Returns why a backend that was asked for cannot run, None if it can.

    Raises:
        ValueError: There is no such backend, or it cannot run here.
    """
    if asked == "auto":
        return choose()[0]
    if asked not in known:
        raise ValueError(f"backend must be one of {('auto', *known)}, got {asked!r}")
    if reason := why_not(asked):
        raise ValueError(f"backend {asked!r} cannot run here: {reason}")
    return asked


def warn_of_slow_path(reason: str) -> None:
    """Log, once in a process, why ops do without their kernels, and what helps."""
    if not _told:
        _told.append(reason)
        _logger.warning(f"Networks run on PyTorch's own operators, which is slower: {printable(reason)}.")


_told: list[str] = []
