"""`basicsr export`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from semanir_plugin.cli.messages import warnings_on_terminal
from semanir_plugin.cli.parser import Subparsers, image_size, whole_number

if TYPE_CHECKING:
    from semanir_plugin.export.exporting import Exported

EPILOG = """\
The file needs nothing of this package. It takes an image of any size, RGB, (1, 3, H, W) of fp32 from 0 to 1, pads it
inside, and gives the restored one. Before it appears it is run on two other images than it was made with, and compared
with PyTorch: less than 60 dB is a failure, and no file.

  basicsr export --model semanir-mini-x4 --format onnx
  basicsr export --model experiments/my_SRx4/models/net_g_best.pth --format openvino -o my_x4.xml --topk 64

docs/export.md has a script of 15 lines that restores a photograph by onnxruntime, and what memory and time it takes.
"""

FORMATS = ("onnx", "torch-export", "openvino", "torchscript")


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write a network to a file for other programs",
        description="Write a trained network to a file that other programs run.",
        epilog=EPILOG,
    )
    parser.add_argument("--model", required=True, metavar="CKPT|NAME", help="checkpoint, or name of shipped weights")
    parser.add_argument("--format", required=True, choices=FORMATS, help="of the file")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file (named after the model, in this folder)")
    parser.add_argument(
        "-opt", "--opt", metavar="FILE", help="option file, if the checkpoint has no options of its network"
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--dynamic", action="store_true", help="for images of any size, as without it")
    sizes.add_argument("--size", type=image_size, metavar="HxW", help="for images of this size alone")
    parser.add_argument("--opset", type=whole_number, metavar="N", help="version of ONNX's operators, 18 to 23 (20)")
    parser.add_argument("--topk", type=whole_number, metavar="K", help="keys per query of SemanIR")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Export, and print how the file does."""
    from semanir_plugin.export.exporting import ExportArguments, export_network

    given = {name: value for name, value in vars(args).items() if name in ExportArguments.__dataclass_fields__}
    with warnings_on_terminal():
        print(describe(export_network(ExportArguments(**given))))


def describe(exported: Exported) -> str:
    """Return what was written, and a table of how it does beside PyTorch."""
    written = " and ".join(f"{each} ({each.stat().st_size / 1e6:.1f} MB)" for each in exported.paths)
    memory = f"it takes about {exported.bytes_per_pixel / 1e3:,.0f} kB of memory per pixel of the image"
    rows: list[tuple[str, ...]] = [("pixels", "run by", "largest difference", "PSNR", "on one thread", "PyTorch's")]
    for each in exported.comparisons:
        height, width = each.size
        times = (f"{1e3 * seconds:,.0f} ms" for seconds in (each.seconds, each.torch_seconds))
        rows.append((f"{height} x {width}", each.runtime, f"{each.difference:.1e}", f"{each.psnr:.0f} dB", *times))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{written}; {memory}", *table])
