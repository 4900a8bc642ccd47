"""`basicsr explain`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.messages import warnings_on_terminal
from semanir_plugin.cli.parser import Subparsers, whole_number

EPILOG = """\
The picture has a row for each stage: the image, the window around the pixel, and for each number of keys the pixels
attended to. A stage whose layers have two window positions is shown in that of its first layer.

  basicsr explain photo.png --at 120,88 --model net_g_latest.pth -o explained.png
  basicsr explain photo.png --at 120,88 -opt options/test_SemanIR_SRx4.yml --topk 64 256 -o explained.png
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "explain",
        help="show which pixels one pixel attends to",
        description="Show the key-semantic dictionaries of a network at one pixel of an image.",
        epilog=EPILOG,
    )
    parser.add_argument("image", metavar="IMAGE", help="image that the network restores")
    parser.add_argument("--at", required=True, type=_pixel, metavar="Y,X", help="row and column of the pixel, from 0")
    parser.add_argument("--model", metavar="CKPT|NAME", help="checkpoint (the one that the option file names)")
    parser.add_argument("-opt", "--opt", metavar="FILE", help="option file, if the checkpoint has no options")
    parser.add_argument(
        "--topk", nargs="+", type=whole_number, metavar="K", help="keys per query (up to the network's own)"
    )
    parser.add_argument(
        "--part", type=whole_number, default=512, metavar="SIDE", help="part of a larger image to read (512)"
    )
    parser.add_argument("-o", "--output", required=True, metavar="PICTURE", help="the picture: .png, .pdf or .svg")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def _pixel(text: str) -> tuple[int, int]:
    row, _, column = text.partition(",")
    if not (row.isdecimal() and column.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be a row and a column such as 120,88, not '{text}'")
    return int(row), int(column)


def run(args: argparse.Namespace) -> None:
    """Plot the picture."""
    from pathlib import Path

    from semanir_plugin.evaluation.explain import ExplainArguments, explain

    with warnings_on_terminal():
        shown = explain(
            ExplainArguments(
                image=Path(args.image),
                at=args.at,
                output=Path(args.output),
                model=args.model,
                opt=args.opt,
                topks=args.topk,
                part=args.part,
            )
        )
    print(f"{args.output}: {shown}")
