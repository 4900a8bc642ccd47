"""Pictures as people have them, and what a network makes of them beside bicubic enlargement.

    python3 scripts/real_inputs.py make OUT --data DIR --scale 4
    python3 scripts/real_inputs.py score OUT --scale 4 --model semanir-mini-x4 --sheets sheets

DIR has folders of photographs that nothing was trained on: Kodak24, McMaster, Set14. OUT gets a folder for each class,
with GT/NAME.png and LR/NAME.png or .jpg, the same ones every time; with --scale 1 inputs keep their size, and are
judged as they are. Letters are those of DejaVu and STIX, which matplotlib brings, and of Aileron, which Pillow does.
Specks are the deviation from the truth where that is flat for 8 pixels around, ringing where it is flat for 2 but not
for 8; both are RMS, in levels of 255. Flat are differences of up to 2 levels, in photographs of up to 24, as in a sky
with its grain.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_pictures.making import CLASSES, Source, make_pairs
from real_pictures.scoring import BICUBIC, Restored, Scores, bicubic, mean_scores, restore_all, table
from real_pictures.sheets import write_sheet

from semanir_plugin.errors import UserError
from semanir_plugin.inference.loading import load


def main(argv: Sequence[str] | None = None) -> int:
    """Make pictures or score a network, and return the exit code."""
    args = parse_arguments(argv)
    try:
        args.run(args)
    except UserError as error:
        print(f"real_inputs: {error}", file=sys.stderr)
        return 2
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("out", type=Path, metavar="OUT", help="folder of the pictures")
    common.add_argument("--scale", type=int, choices=(1, 2, 4), default=4, help="of the networks (4)")
    common.add_argument("--classes", nargs="+", choices=list(CLASSES), default=list(CLASSES), metavar="CLASS")
    making = commands.add_parser("make", parents=[common], help="make pictures")
    making.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with folders of photographs")
    making.add_argument("--photographs", type=int, default=12, metavar="N", help="of each class (12)")
    making.add_argument("--seed", type=int, default=0, help="of noise (0)")
    making.set_defaults(run=make)
    scoring = commands.add_parser("score", parents=[common], help="score networks")
    scoring.add_argument("--model", nargs="+", required=True, metavar="CKPT|NAME", help="as of basicsr restore")
    scoring.add_argument("--json", type=Path, metavar="FILE", help="the scores of every picture")
    scoring.add_argument("--sheets", type=Path, metavar="DIR", help="a sheet of each class, to look at")
    scoring.set_defaults(run=score)
    return parser.parse_args(argv)


def make(args: argparse.Namespace) -> None:
    """Make the pictures of each class."""
    source = Source(data=args.data, scale=args.scale, photographs=args.photographs, seed=args.seed)
    make_pairs(args.out, source, args.classes)


def score(args: argparse.Namespace) -> None:
    """Print a table, and write what was asked for."""
    networks = {BICUBIC: bicubic(args.scale), **{Path(name).stem: load(name, device="cpu") for name in args.model}}
    found = {
        each: list(restore_all(args.out / each, networks, args.scale, tolerance_of(each))) for each in args.classes
    }
    rows = [(each, len(pictures), means(pictures, list(networks))) for each, pictures in found.items()]
    print(table(rows, list(networks)))
    if args.json:
        told = {each: {picture.name: as_json(picture) for picture in pictures} for each, pictures in found.items()}
        args.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        for each, pictures in found.items():
            write_sheet(args.sheets / f"x{args.scale}_{each}.png", pictures)


def tolerance_of(kind: str) -> float:
    """Return by how many levels ground may differ that is flat in pictures of a class."""
    return 24 if kind.startswith("photographs") else 2


def means(pictures: Sequence[Restored], names: Sequence[str]) -> dict[str, Scores]:
    """Return the mean scores by network."""
    return {name: mean_scores([picture.scores[name] for picture in pictures]) for name in names}


def as_json(picture: Restored) -> dict[str, dict[str, float]]:
    """Return the scores of a picture by network."""
    return {name: asdict(each) for name, each in picture.scores.items()}


if __name__ == "__main__":
    sys.exit(main())
