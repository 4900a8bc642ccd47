"""The `basicsr` command.

Nothing here imports torch before a subcommand has been chosen and its arguments understood.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence

from semanir_plugin import __version__
from semanir_plugin.cli import (
    benchmark,
    curves,
    env,
    explain,
    export,
    leaderboard,
    lmdb,
    options,
    prepare,
    profile,
    restore,
    test,
    train,
    web,
)
from semanir_plugin.cli import list as list_command
from semanir_plugin.cli.messages import warnings_on_terminal
from semanir_plugin.cli.parser import OneLineParser, add_import_arguments, pop_imports
from semanir_plugin.cli.streams import outlive_readers
from semanir_plugin.errors import UserError, one_line, printable, shorten

__all__ = ["main"]

SUBCOMMANDS = (
    train,
    test,
    restore,
    export,
    web,
    leaderboard,
    benchmark,
    profile,
    explain,
    curves,
    prepare,
    lmdb,
    list_command,
    options,
    env,
)


OF_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of the system that are about a path, not about what is done there."""

OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of the system that are about where a result goes."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command and all its subcommands."""
    parser = OneLineParser(
        prog="basicsr",
        description="Train and test image restoration networks: BasicSR with SemanIR.",
        epilog="Help for a subcommand: basicsr train --help",
    )
    parser.add_argument("--version", action="version", version=f"semanir_plugin {__version__}")
    subparsers = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True, dest="subcommand")
    for module in SUBCOMMANDS:
        module.add_parser(subparsers)
    add_import_arguments(parser, subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 wrong input, 75 told to stop, 130 interrupted."""
    outlive_readers()
    args = build_parser().parse_args(argv)
    try:
        _check_working_directory()
        _import_extensions(pop_imports(args))
        code: int = args.run(args) or 0
        print(end="", flush=True)  # a full disk is told here, and not by Python when it ends
        return code
    except UserError as error:
        _report_to_torchrun(error)
        return _print_error("\n".join(f"basicsr {args.subcommand}: {line}" for line in str(error).splitlines()), 2)
    except KeyboardInterrupt:
        return _print_error(f"basicsr {args.subcommand}: interrupted", 130)
    except Exception as error:
        _report_to_torchrun(error)
        if getattr(args, "debug", False):
            traceback.print_exc()
        if isinstance(error, OSError) and (told := _of_places(error)):
            return _print_error(f"basicsr {args.subcommand}: {shorten(printable(told))}", 2)
        return _print_error(f"basicsr {args.subcommand}: failed with {one_line(error)} (--debug shows where)", 1)


def _of_places(error: OSError) -> str | None:
    """Return what to tell of an error that is about a path or a disk, which the user can mend."""
    if error.errno in OF_NAMES and error.filename:
        return f"{error.filename}: {error.strerror}; correct the name, or choose another"
    if error.errno in OF_DISKS:
        place = error.filename or "its output"
        return f"cannot write {place}: {error.strerror}; mend that or choose another place, and run it again"
    return None


def _check_working_directory() -> None:
    """Refuse to work in a folder that was removed, where libraries of torch end the process.

    Raises:
        UserError: It was.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("the working directory was removed or cannot be read; cd to another") from error


def _import_extensions(named: Sequence[str]) -> None:
    from semanir_plugin import extensions

    with warnings_on_terminal():
        extensions.import_installed()
    extensions.import_named(named)


def _report_to_torchrun(error: Exception) -> None:
    if os.environ.get("TORCHELASTIC_ERROR_FILE"):
        from semanir_plugin.basicsr_host.engine.distributed import report_failure

        report_failure(error)


def _print_error(lines: str, code: int) -> int:
    print(lines, file=sys.stderr)
    return code
