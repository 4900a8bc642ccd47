"""`basicsr options`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from semanir_plugin.cli.parser import Subparsers

if TYPE_CHECKING:
    from semanir_plugin.option_files import OptionFile

EPILOG = """\
Every NAME is also found by -opt, where there is no such file: basicsr train -opt train_SemanIR_SRx4.yml

  basicsr options list
  basicsr options list 'test_*_SRx4*'
  basicsr options show train_SemanIR_B_SRx2.yml
  basicsr options copy train_SemanIRUNet_color_DN50.yml my_options
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "options",
        help="list, show or copy the option files that come with this package",
        description="List, show or copy the option files that come with this package.",
        epilog=EPILOG,
    )
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    action = actions.add_parser("list", help="list names, each with what it is for", description="List the names.")
    action.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="of the names, such as 'test_*' (all)"
    )
    action.set_defaults(run=list_options)
    action = actions.add_parser("show", help="print a file in full", description="Print a file, its base merged in.")
    action.add_argument("name", metavar="NAME", help="a shipped option file, or the path of one's own")
    action.set_defaults(run=show_options)
    action = actions.add_parser("copy", help="write a file in full", description="Write a file, its base merged in.")
    action.add_argument("name", metavar="NAME", help="a shipped option file, or the path of one's own")
    action.add_argument("folder", nargs="?", default=".", metavar="DIR", help="where to (the working directory)")
    action.set_defaults(run=copy_file)


def list_options(args: argparse.Namespace) -> None:
    """Print the names that match a pattern."""
    from fnmatch import fnmatchcase

    from semanir_plugin.errors import UserError
    from semanir_plugin.shipped_recipes import shipped_recipes

    pattern = args.pattern.removesuffix(".yml") + ".yml"
    named = {name: recipe for name, recipe in shipped_recipes().items() if fnmatchcase(name, pattern)}
    if not named:
        raise UserError(f"no option file is called '{args.pattern}'; 'basicsr options list' has them all")
    width = max(map(len, named))
    for name, recipe in named.items():
        print(f"{name:{width}}  {recipe if recipe.values else recipe.about}")


def show_options(args: argparse.Namespace) -> None:
    """Print a file that needs no other."""
    from semanir_plugin.option_files import load_options

    print(_text_of(load_options(args.name)), end="")


def copy_file(args: argparse.Namespace) -> None:
    """Write a file that needs no other, where there is none of its name."""
    from semanir_plugin.atomic_io import write_atomic
    from semanir_plugin.errors import UserError
    from semanir_plugin.option_files import load_options

    file = load_options(args.name)
    target = Path(args.folder, file.path.name)
    if os.path.lexists(target):
        raise UserError(f"{target}: is there already; remove it, or name another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(_text_of(file).encode(), target)
    except OSError as error:
        raise UserError(f"{error.filename or target}: cannot be written: {error.strerror}") from error
    print(target)


def _text_of(file: OptionFile) -> str:
    """Return the text of a file that needs no other, and names the JSON schema where that is."""
    from semanir_plugin.option_files import self_contained_text
    from semanir_plugin.shipped_recipes import SCHEMA_LINE, recipe_folder

    schema = "semanir_plugin.schema.json"
    return self_contained_text(file).replace(f"{SCHEMA_LINE}{schema}", f"{SCHEMA_LINE}{recipe_folder() / schema}", 1)
