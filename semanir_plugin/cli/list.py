"""`basicsr list`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers

KINDS = (
    *("archs", "blocks", "models", "datasets", "losses", "metrics", "protocols", "optimizers", "schedulers"),
    "weights",
)
EPILOG = """\
`network_g: {type: MixedArch, ...}` mixes blocks into other architectures, see docs/mixing.md.

  basicsr list
  basicsr list blocks losses
  basicsr list --modules -opt options/train_SemanIR_SRx4.yml
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "list",
        help="list the names that option files can use, or the modules of a network",
        description="List the names that option files can use, with their arguments, or the modules of a network.",
        epilog=EPILOG,
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)} (all)")
    parser.add_argument("--modules", action="store_true", help="list the modules of -opt's network, for `where`")
    parser.add_argument("-opt", metavar="FILE", help="option file, with --modules")
    parser.add_argument(
        "--force_yml", nargs="+", action="extend", default=[], metavar="A:B=C", help="set options of -opt"
    )
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the entries of the kinds asked for, or the modules of a network."""
    from semanir_plugin.errors import UserError

    if args.modules != bool(args.opt):
        raise UserError("--modules shows the network of an option file: give both --modules and -opt FILE")
    if args.modules:
        _print_modules(args)
        return
    for kind in args.kinds or KINDS:
        if kind not in KINDS:
            raise UserError(f"unknown kind '{kind}'; known: {', '.join(KINDS)}")
    for kind in args.kinds or KINDS:
        _print_kind(kind)


def _print_kind(kind: str) -> None:
    import textwrap

    import semanir_plugin.archs  # noqa: F401  # the host comes first
    from semanir_plugin.basicsr_host.engine.listing import list_entries

    print(f"{kind}\n")
    for entry in list_entries(kind):
        print(f"  {entry.name}" + (f": {entry.about}" if entry.about else ""))
        if entry.arguments:
            print(textwrap.fill(", ".join(entry.arguments), 116, initial_indent=" " * 6, subsequent_indent=" " * 6))
    print()


def _print_modules(args: argparse.Namespace) -> None:
    import semanir_plugin.archs  # noqa: F401  # the host comes first
    from semanir_plugin.basicsr_host.engine.listing import describe_features, list_modules

    modules = [(place.name, place.kind, describe_features(place)) for place in list_modules(args.opt, args.force_yml)]
    rows = [("module", "class", "features"), *modules]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, kind, features in rows:
        print(f"{name:{widths[0]}}  {kind:{widths[1]}}  {features}")
