"""Output streams that end no command after its work."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

__all__ = ["outlive_readers"]


class _Patient(io.FileIO):
    """A stream whose reader may go, as `head` does when it has enough: the work goes on, unheard.

    Other errors are told once, and not again by Python when it ends.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                return len(data)
            raise


def outlive_readers() -> None:
    """Have standard output and errors outlive their readers, and what a terminal's encoding lacks spelt out."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if stream is getattr(sys, f"__{name}__"):  # not what a caller put in its place
            setattr(sys, name, _patient(stream))


def _patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    raw = _Patient(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
