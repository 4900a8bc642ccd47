"""`basicsr prepare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from semanir_plugin.cli import lmdb
from semanir_plugin.cli.grid import add_grid, read_grid
from semanir_plugin.cli.parser import Subparsers

SR_EPILOG = """\
OUT gets GT and LR_bicubic_X4 (the scale's number), or GT.lmdb and LR_bicubic_X4.lmdb: the layout that options/ expect.
Both appear when they are complete. Killed, the same command with --lmdb goes on where it was.

  basicsr prepare sr DF2K_HR datasets/DF2K --scale 4 --crop 480 --lmdb  # to train
  basicsr prepare sr Set5_HR datasets/Set5 --scale 4                    # to validate and to test
"""
RAIN_EPILOG = """\
OUT gets GT and LQ, PNG files of equal names. The streaks of an image depend on --seed, its name and its amount alone:
the same command gives the same pairs, and with one --amount also of some of the images.

  basicsr prepare rain BSD400 datasets/rain/train --seed 1
  basicsr prepare rain BSD100 datasets/rain/test --seed 2 --amount 0.5 1 2 4
"""
SUB_IMAGES_EPILOG = """\
Files are called NAME_s001.png and so on, and appear when all are there. For pairs, and to go on after an interruption,
use `basicsr prepare lmdb --crop`.

  basicsr prepare sub-images 'DF2K/*_HR' datasets/DF2K_sub --crop 480 --step 240
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand, and its own."""
    about = "make training and test data from images"
    parser = subparsers.add_parser("prepare", help=about, description=f"{about[0].upper()}{about[1:]}.")
    kinds = parser.add_subparsers(title="kinds of data", metavar="KIND", required=True)
    _add_sr(kinds)
    _add_rain(kinds)
    _add_sub_images(kinds)
    lmdb.add_parser(kinds)
    for kind, each in kinds.choices.items():
        each.set_defaults(subcommand=f"prepare {kind}")


def _add_sr(kinds: Subparsers) -> None:
    about = "make pairs for super-resolution by MATLAB's bicubic"
    parser = kinds.add_parser("sr", help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=SR_EPILOG)
    parser.add_argument("images", metavar="IMAGES", help="folder of photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write; pairs of an earlier run are replaced")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4, 8), help="factor between both sizes (4)")
    parser.add_argument(
        "--bicubic",
        choices=("matlab", "basicsr"),
        default="matlab",
        help="matlab: to the bit, as benchmarks are made (this); basicsr: in floats, rounded once",
    )
    parser.add_argument("--crop", type=int, metavar="SIDE", help="cut into sub-images of this side, for training")
    parser.add_argument("--lmdb", action="store_true", help="write LMDBs instead of folders of PNG files")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run_sr)


def _add_rain(kinds: Subparsers) -> None:
    about = "make pairs for deraining by synthetic streaks"
    parser = kinds.add_parser("rain", help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=RAIN_EPILOG)
    parser.add_argument("images", metavar="IMAGES", help="folder of photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write; must have neither GT nor LQ yet")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="decides what the rain is like (0)")
    parser.add_argument(
        "--amount",
        type=_amount,
        nargs="+",
        default=[1.0],
        metavar="X",
        help="times the usual number of drops, 4 is a downpour; of several, images get one after the other (1)",
    )
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run_rain)


def _add_sub_images(kinds: Subparsers) -> None:
    about = "cut large photographs into files for training"
    epilog = SUB_IMAGES_EPILOG
    parser = kinds.add_parser("sub-images", help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=epilog)
    parser.add_argument("images", metavar="IMAGES", help="folder, or 'quoted/*/pattern' of folders, of photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must not be there yet")
    add_grid(parser, required=True)
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run_sub_images)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = 0
    if not 0 < amount <= 100:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 100, not '{text}'")
    return amount


def run_sr(args: argparse.Namespace) -> None:
    """Write the pairs."""
    import os

    from semanir_plugin.basicsr_host.data.pairing import find_all_images
    from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

    images, workers = find_all_images(args.images), os.cpu_count() or 1
    options = {"bicubic": args.bicubic, "crop": args.crop, "lmdb": args.lmdb, "workers": workers}
    write_sr_pairs(images, args.out, args.scale, **options)
    print(f"{args.out}: pairs of {len(images):,} images")


def run_rain(args: argparse.Namespace) -> None:
    """Write the pairs."""
    from semanir_plugin.basicsr_host.data.rain_pairs import write_rain_pairs

    print(f"{args.out}: {write_rain_pairs(args.images, args.out, args.seed, args.amount):,} pairs")


def run_sub_images(args: argparse.Namespace) -> None:
    """Write the sub-images."""
    import os

    from semanir_plugin.basicsr_host.data.pairing import find_singles
    from semanir_plugin.basicsr_host.data.sub_image_files import write_sub_images

    grid = read_grid(args)
    assert grid is not None, "--crop is required"
    print(f"{args.out}: {write_sub_images(find_singles(args.images), args.out, grid, os.cpu_count() or 1):,} images")
