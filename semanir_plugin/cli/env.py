"""`basicsr env`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "env",
        help="show versions, kernels and what the ops run on here, and why",
        description="Show versions, optional parts, where kernels come from, and which backend each op takes, and why.",
        epilog="Reports of errors should have it. Windows of 32 x 32 tokens, 6 heads of 30 and 64 keys stand for all.",
    )
    parser.add_argument("--device", metavar="NAME", help="such as cuda:1 or cpu (a GPU where there is one)")
    parser.add_argument("--json", action="store_true", help="the same for programs")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print it."""
    import json

    from semanir_plugin.evaluation.environment import describe_environment
    from semanir_plugin.inference.devices import choose_device

    sections = describe_environment(choose_device(args.device))
    if args.json:
        print(json.dumps(sections, indent=2))
        return
    width = max(len(name) for section in sections.values() for name in section) + 2
    for title, section in sections.items():
        print(f"{title}:", *(f"  {name:{width}}{text}" for name, text in section.items()), sep="\n")
