"""Logging of a run: to the terminal at once, to the run's file as soon as its folder exists. Full disks end no run."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

from basicsr.utils.logger import initialized_logger

from semanir_plugin.errors import MessageFormatter, one_line

__all__ = ["log_to_file", "quiet_threads", "start_logging"]

NAME = "basicsr"
FORMAT = "%(asctime)s %(levelname)s: %(message)s"


def start_logging(rank: int) -> logging.Logger:
    """Return BasicSR's logger, showing messages on stderr and keeping them, and the details, for `log_to_file`.

    BasicSR opens its log file first and builds afterwards; here nothing is written before everything is known to work.
    """
    logger = logging.getLogger(NAME)
    _close_handlers(logger)
    initialized_logger[NAME] = True  # BasicSR's own get_root_logger now adds nothing
    logger.propagate = False
    logger.setLevel(logging.DEBUG if rank == 0 else logging.ERROR)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.INFO)
    terminal.setFormatter(MessageFormatter(FORMAT))
    logger.addHandler(terminal)
    if rank == 0:
        logger.addHandler(MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False))
    return logger


class LogFile(logging.FileHandler):
    """A log file that a full disk ends with one line; what follows is on the terminal alone."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Close the file, where logging would print a traceback for each message."""
        self.setLevel(logging.CRITICAL + 1)
        reason = one_line(sys.exc_info()[1] or OSError("cannot be written"))
        print(f"{self.baseFilename}: the log ends here: {reason}", file=sys.stderr)


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Keep threads that cannot write or read from printing tracebacks: who feeds them, or reads from them, is told."""
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, OSError | EOFError):
            previous(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous


def log_to_file(logger: logging.Logger, path: Path) -> None:
    """Write what was logged so far, and from now on, to `path`."""
    file = LogFile(path, "a", encoding="utf-8")  # runs within one second share the name
    file.setFormatter(MessageFormatter(FORMAT))
    logger.addHandler(file)
    for handler in [h for h in logger.handlers if isinstance(h, MemoryHandler)]:
        handler.setTarget(file)
        handler.flush()
        logger.removeHandler(handler)


def _close_handlers(logger: logging.Logger) -> None:
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
