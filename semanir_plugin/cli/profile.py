"""`basicsr profile`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers, image_size

EPILOG = """\
For each part of the network: parameters, operations (a multiplication with its addition counts as one), time and
memory; for its attention, time and memory of every backend that can run here. No weights are loaded: costs do not
depend on them. The results are OUT/profile.json and OUT/profile.png.

  basicsr profile -opt options/test_SemanIR_SRx4.yml -o profiles/SemanIR_S
  basicsr profile -opt options/test_AST_T_derain_SPAD.yml --size 128x128 128x256 -o profiles/AST_T --repeats 10
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "profile",
        help="measure the cost of each part of a network",
        description="Measure the cost of each part of a network.",
        epilog=EPILOG,
    )
    parser.add_argument("-opt", required=True, metavar="FILE", help="option file with the network_g")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder for the JSON and the picture")
    parser.add_argument(
        "--size",
        nargs="+",
        type=image_size,
        default=[(128, 128)],
        metavar="HxW",
        help="of the input, in pixels (128x128)",
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs, of which the median counts (3)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (a GPU where there is one)")
    parser.add_argument(
        "--force_yml", nargs="+", action="extend", default=[], metavar="A:B=C", help="set options of the file"
    )
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure, print the tables and write the files."""
    from semanir_plugin.errors import UserError
    from semanir_plugin.evaluation.profiling.run import profile_option_file

    if args.repeats < 1:
        raise UserError("--repeats must be at least 1")
    profile_option_file(
        args.opt, args.size, args.output, repeats=args.repeats, device=args.device, force_yml=args.force_yml
    )
