"""Make ground truth and low resolution pairs for super-resolution from a folder of photographs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bootstrap import run_in_venv

EPILOG = """\
OUT gets GT and LR_bicubic_X4 (the scale's number), or GT.lmdb and LR_bicubic_X4.lmdb: the layout that options/ expect.
Both appear when they are complete. Killed, the same command with --lmdb goes on where it was.

  python3 scripts/prepare_sr_data.py DF2K_HR datasets/DF2K --scale 4 --crop 480 --lmdb  # to train
  python3 scripts/prepare_sr_data.py Set5_HR datasets/Set5 --scale 4                    # to validate and to test
"""


def main() -> int:
    """Write the pairs; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("images", metavar="IMAGES", help="folder of photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write; pairs of an earlier run are replaced")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4, 8), help="default: 4")
    parser.add_argument(
        "--bicubic",
        choices=("matlab", "basicsr"),
        default="matlab",
        help="matlab: to the bit, as benchmarks are made, default; basicsr: in floats, rounded once",
    )
    parser.add_argument("--crop", type=int, metavar="SIDE", help="cut into sub-images of this side, for training")
    parser.add_argument("--lmdb", action="store_true", help="write LMDB instead of folders of PNG files")
    args = parser.parse_args()
    run_in_venv()
    from semanir_plugin.basicsr_host.data.pairing import find_images
    from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs
    from semanir_plugin.errors import UserError

    try:
        images, workers = find_images(args.images), os.cpu_count() or 1
        options = {"bicubic": args.bicubic, "crop": args.crop, "lmdb": args.lmdb, "workers": workers}
        write_sr_pairs(images, args.out, args.scale, **options)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
