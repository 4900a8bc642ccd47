"""Run a command in this process, and judge what it did."""

from __future__ import annotations

import contextlib
import io
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Outcome", "run_command"]

MOST_LINES = 11
"""That an option file's errors may take, the one that counts those left out included."""


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        code: It ended with.
        said: Lines on stderr that are the command's, not the log's.
        text: All that it wrote there.
        problem: What no command may do, None where it did nothing of the kind.
    """

    code: int
    said: str
    text: str
    problem: str | None


def run_command(arguments: Sequence[str]) -> Outcome:
    """Run `basicsr` with arguments."""
    from semanir_plugin.cli import main

    told = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
        try:
            code = main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception:
            traceback.print_exc()
            code = 1
    text = told.getvalue()
    said = [line for line in text.splitlines() if line.startswith("basicsr")]
    return Outcome(code, "\n".join(said), text, find_problem(code, text, said))


def find_problem(code: int, text: str, said: Sequence[str]) -> str | None:
    """Return what is wrong with how a command ended: it may refuse in a line for each error, and with nothing else."""
    if "Traceback" in text:
        return f"traceback: {text.strip().splitlines()[-1]}"
    if "failed with" in text:
        return f"traceback: {next(line for line in text.splitlines() if 'failed with' in line)}"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if len(said) not in (range(1, MOST_LINES + 1) if code == 2 else (0,)):
        return f"exit code {code} with {len(said)} lines"
    return None
