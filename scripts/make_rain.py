"""Make pairs of clean and rainy images from a folder of photographs, with synthetic streaks of rain."""

from __future__ import annotations

import argparse
import itertools
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from bootstrap import run_in_venv

EPILOG = """\
OUT gets GT and LQ, PNG files of equal names. The streaks of an image depend on --seed, its name and its amount alone:
the same command gives the same pairs, and with one --amount also of some of the images.

  python3 scripts/make_rain.py BSD400 datasets/rain/train --seed 1
  python3 scripts/make_rain.py BSD100 datasets/rain/test --seed 2 --amount 0.5 1 2 4
"""


def main() -> int:
    """Write the pairs; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("images", metavar="IMAGES", help="folder of photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write; must have neither GT nor LQ yet")
    parser.add_argument("--seed", type=int, default=0, help="decides what the rain is like; default: 0")
    parser.add_argument(
        "--amount",
        type=float,
        nargs="+",
        default=[1.0],
        help="times the usual number of drops, 4 is a downpour; of several, images get one after the other",
    )
    args = parser.parse_args()
    for amount in args.amount:
        if not 0 < amount <= 100:
            parser.error(f"--amount must be above 0 and at most 100, not {amount}")
    run_in_venv()
    from semanir_plugin.errors import UserError

    try:
        write_rain_pairs(args.images, args.out, args.seed, args.amount)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def write_rain_pairs(images: str, out: Path, seed: int, amounts: Sequence[float] = (1.0,)) -> None:
    """Write GT and LQ of every image in a folder, which appear when they are complete; the amounts of rain take turns.

    Raises:
        UserError: The folder holds no images, one cannot be read, two have the same name, or `out` has pairs already.
    """
    from semanir_plugin.basicsr_host.data.outputs import publishing
    from semanir_plugin.basicsr_host.data.pairing import find_images
    from semanir_plugin.errors import UserError

    paths = find_images(images)
    if len({path.stem for path in paths}) < len(paths):
        raise UserError(f"{images}: some images differ in their suffix alone; rename or remove one of them")
    folders = [out / "GT", out / "LQ"]
    for folder in folders:
        if folder.exists():
            raise UserError(f"{folder} is there already; remove it or choose another folder")
    with publishing(folders) as drafts:
        for draft in drafts:
            draft.mkdir()
        for path, amount in zip(paths, itertools.cycle(amounts)):  # one of them is endless
            write_pair(path, drafts[0], drafts[1], seed, amount)
    print(f"{len(paths)} pairs written to {out.resolve()}")


def write_pair(path: Path, gt: Path, lq: Path, seed: int, amount: float) -> None:
    """Write one image as it is and in the rain."""
    import cv2

    from semanir_plugin.degradations import add_rain_streaks
    from semanir_plugin.errors import UserError
    from semanir_plugin.inference.images import decode_image
    from semanir_plugin.pixels import to_uint8

    try:
        image = decode_image(path.read_bytes(), "color")
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    rainy = add_rain_streaks(image, seed=zlib.crc32(f"{seed}/{path.stem}".encode()), amount=amount)
    for folder, content in ((gt, image), (lq, rainy)):
        cv2.imencode(".png", to_uint8(content))[1].tofile(folder / f"{path.stem}.png")


if __name__ == "__main__":
    sys.exit(main())
