"""Argument parsing shared by the subcommands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from semanir_plugin.errors import near_match

__all__ = [
    "OneLineParser",
    "Subparsers",
    "add_import_arguments",
    "add_run_arguments",
    "image_size",
    "pop_imports",
    "whole_number",
]

MAY_BE_EMPTY = ("--suffix",)
"""Flags whose value may be empty."""

Subparsers = Any  # argparse keeps the type of its sub-parser action private


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that answers a mistake with one line, and a misspelt flag with the nearest one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and report what is left over from within the subcommand it was given to."""
        args = sys.argv[1:] if args is None else args
        self.check_words(args)
        known, extras = super().parse_known_args([self.spell(word) for word in args], namespace)
        if extras:
            near = near_match(extras[0].partition("=")[0], self._option_string_actions)
            hint = f", did you mean '{near}'?" if near else ""
            self.error(f"unknown argument '{extras[0]}'{hint}")
        return known, extras

    def check_words(self, words: Sequence[str]) -> None:
        """End with exit code 2 at an empty word, where a path would mean the working directory."""
        for before, word in zip(["", *words], words, strict=False):
            if not word and before not in MAY_BE_EMPTY:
                self.error("an argument is empty, as where a variable of the shell is not set; fill it or leave it out")

    def spell(self, word: str) -> str:
        """Return a long flag as this parser spells it: in place of each dash an underscore will do, and the reverse."""
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag in self._option_string_actions:
            return word
        dashed = {known.replace("_", "-"): known for known in self._option_string_actions}
        return dashed.get(flag.replace("_", "-"), flag) + equals + value


def whole_number(text: str, least: int = 1) -> int:
    """Return a whole number of at least `least`, as a type of arguments."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not '{text}'")
    return int(text)


def image_size(text: str) -> tuple[int, int]:
    """Return height and width in pixels of HEIGHTxWIDTH, as a type of arguments."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, such as 64x96, not '{text}'")
    return int(height), int(width)


def add_import_arguments(parser: argparse.ArgumentParser, subparsers: Subparsers) -> None:
    """Add `--import` to a command and all its subcommands, so that it may stand before or after their names."""
    for each, place in ((parser, "before"), *((sub, "after") for sub in subparsers.choices.values())):
        each.add_argument(
            "--import",
            action="append",
            default=[],
            dest=f"imports_{place}",
            metavar="MODULE",
            help="module, or .py file, with archs, models, datasets or losses of your own; may be repeated",
        )


def pop_imports(args: argparse.Namespace) -> list[str]:
    """Take what `--import` named out of the arguments."""
    return [*vars(args).pop("imports_before"), *vars(args).pop("imports_after")]


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that BasicSR's train and test scripts take."""
    parser.add_argument(
        "-opt", required=True, metavar="FILE", help="option file in BasicSR's format, or the name of a shipped one"
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default="none",
        help="launcher of the processes; for torchrun, pytorch (default: none)",
    )
    parser.add_argument("--debug", action="store_true", help="short intervals, 'debug_' before the name, tracebacks")
    parser.add_argument(
        "--force_yml",
        nargs="+",
        action="extend",
        default=[],
        metavar="A:B=C",
        help="set options, for example train:total_iter=1000 network_g:depths=[2,2]",
    )
    # Older launchers pass the local rank as a flag; the environment has it too.
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
