"""`basicsr restore`."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Literal

from semanir_plugin.cli.messages import warnings_on_terminal
from semanir_plugin.cli.parser import Subparsers, whole_number
from semanir_plugin.inference.films.kinds import CODECS
from semanir_plugin.inference.purposes import SCALES

EPILOG = """\
Results keep their names, formats and depths: gray stays gray, 16 bit stay 16 bit, transparency and colour profile are
kept, photographs are turned upright; films keep sound, times and colours. Failures are reported, and the exit code is
then 1. After an interruption, the same command with --skip-existing resumes, films within.

  basicsr restore photo.jpg -o photo_x4.jpg
  basicsr restore photo.jpg -o restored.jpg --model experiments/my_SRx4/models/net_g_best.pth
  basicsr restore scans -o restored --model net_g_best.pth --recursive --tile auto
  basicsr restore clip.mp4 -o clip_x2.mp4 --scale 2
  basicsr restore 'rain/*.png' -o clear --model model_best.pth -opt options/test_AST_T_derain_SPAD.yml --self-ensemble

docs/restore.md describes the results for every kind of file, docs/which_network.md what to take for which picture.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "restore",
        help="restore photographs and films",
        description="Restore photographs and films by trained weights.",
        epilog=EPILOG,
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="file, folder, or 'quoted*pattern'")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder; for a single INPUT, also a file")
    parser.add_argument(
        "--model",
        metavar="CKPT|NAME",
        help="checkpoint or folder, name of shipped weights, org/name on the hub; left out, what enlarges any picture",
    )
    parser.add_argument("--scale", type=int, choices=tuple(SCALES), help="without --model: how many times (4)")
    parser.add_argument(
        "-opt", "--opt", metavar="FILE", help="option file, if the checkpoint has no options of its network"
    )
    parser.add_argument(
        "--tile", type=_tile, metavar="N|auto", help="restore in tiles of N x N pixels, or as large as memory allows"
    )
    parser.add_argument(
        "--tile-overlap", type=partial(whole_number, least=0), metavar="N", help="pixels that tiles share (32)"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of computation (fp32)")
    parser.add_argument("--topk", type=whole_number, metavar="K", help="keys per query of SemanIR")
    parser.add_argument("--self-ensemble", action="store_true", help="average over flips and rotations; 8 times slower")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (a GPU where there is one)")
    parser.add_argument("--recursive", action="store_true", help="include folders within folders")
    parser.add_argument("--suffix", default="", metavar="TEXT", help="name results NAMETEXT.png")
    parser.add_argument(
        "--video-codec", choices=tuple(CODECS), help="of films: h264, in .webm vp9; ffv1 loses nothing (.mkv, .mov)"
    )
    parser.add_argument(
        "--crf", type=partial(whole_number, least=0), metavar="N", help="quality of films, 0 the best (h264: 16)"
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace existing results")
    there.add_argument("--skip-existing", action="store_true", help="keep existing results, and make the others")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Restore, and return the exit code."""
    from semanir_plugin.inference.restore_files import RestoreArguments, restore_files

    given = {name: value for name, value in vars(args).items() if name not in ("input", "run", "subcommand")}
    with warnings_on_terminal():
        restored, failed = restore_files(RestoreArguments(inputs=args.input, **given))
    print(f"{args.output}: {restored:,} restored" + (f", {failed:,} could not be" if failed else ""))
    return 1 if failed else 0


def _tile(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else whole_number(text)
