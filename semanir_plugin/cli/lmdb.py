"""`basicsr prepare lmdb`, also called `basicsr lmdb`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.grid import add_grid, read_grid
from semanir_plugin.cli.parser import Subparsers

EPILOG = """\
Training reads an LMDB faster than many small files, and decodes less where images are cut into sub-images. An LMDB
appears when it is complete and every entry has been read back. After an interruption, the same command resumes.

  basicsr prepare lmdb -i BSD400 -o datasets/BSD400.lmdb
  basicsr prepare lmdb -i 'DF2K/*_HR' 'DF2K/*_LR_bicubic/X4' --scale 4 --filename-tmpl '{}x4' --crop 480 --step 240 \\
      -o datasets/DF2K/GT.lmdb datasets/DF2K/LR_bicubic_X4.lmdb
  basicsr prepare lmdb -i 'GoPro/train/*/sharp' 'GoPro/train/*/blur' --crop 512 \\
      -o datasets/GoPro/GT.lmdb datasets/GoPro/LQ.lmdb
  basicsr prepare lmdb -i AGAN/train/gt AGAN/train/data --pair-by '^[0-9]+' \\
      -o datasets/AGAN/GT.lmdb datasets/AGAN/LQ.lmdb

docs/datasets.md has the commands for more data sets.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "lmdb",
        help="turn a folder, or a pair of folders, into LMDBs",
        description="Turn a folder of images, or a pair of folders, into LMDBs.",
        epilog=EPILOG,
    )
    folders = "folder, or 'quoted/*/pattern' of folders, with images; or two, with ground truths and with inputs"
    parser.add_argument("-i", "--input", required=True, nargs="+", metavar="FOLDER", help=folders)
    parser.add_argument("-o", "--output", required=True, nargs="+", metavar="LMDB", help="NAME.lmdb for each folder")
    parser.add_argument("--scale", type=int, default=1, metavar="N", help="ground truth's size by its input's (1)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--filename-tmpl", default="{}", metavar="TMPL", help="an input's name by its ground truth's ({})")
    how.add_argument("--pair-by", metavar="REGEX", help="pair files in whose names this finds the same text, or group")
    add_grid(parser)
    parser.add_argument("--compress-level", type=int, default=1, choices=range(10), metavar="0-9", help="of PNG (1)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (one per core)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing LMDBs")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the LMDBs."""
    import os
    from pathlib import Path

    from semanir_plugin.basicsr_host.data.lmdb_writer import write_lmdbs
    from semanir_plugin.basicsr_host.data.pairing import find_pairs, find_singles

    sub_images = read_grid(args)
    _check_folders(args)
    if len(args.input) == 1:
        found = find_singles(args.input[0])
    else:
        found = find_pairs(*args.input, filename_tmpl=args.filename_tmpl, pair_by=args.pair_by)
    count = write_lmdbs(
        found,
        [Path(path) for path in args.output],
        scale=args.scale,
        sub_images=sub_images,
        compress_level=args.compress_level,
        workers=args.workers or os.cpu_count() or 1,
        overwrite=args.overwrite,
    )
    for path in args.output:
        print(f"{path}: {count:,} images")


def _check_folders(args: argparse.Namespace) -> None:
    from semanir_plugin.errors import UserError

    if len(args.input) > 2 or len(args.output) != len(args.input):
        raise UserError("name one folder and one LMDB, or two of each: of the ground truths first, then of the inputs")
    if len(args.input) == 1 and (args.scale != 1 or args.filename_tmpl != "{}" or args.pair_by is not None):
        raise UserError("--scale, --filename-tmpl and --pair-by are about two folders, but one is named")
    if args.scale < 1 or (args.workers is not None and args.workers < 1):
        raise UserError("--scale and --workers must be at least 1")
