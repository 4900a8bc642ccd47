"""Print the warnings that the package logs, for subcommands that start no run of BasicSR."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from semanir_plugin.errors import MessageFormatter

__all__ = ["warnings_on_terminal"]


@contextmanager
def warnings_on_terminal() -> Iterator[None]:
    """Within the block, print the package's warnings on stderr."""
    logger, handler = logging.getLogger("semanir_plugin"), logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(MessageFormatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False  # BasicSR's logger would print them again
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
