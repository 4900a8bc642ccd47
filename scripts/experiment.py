"""Train networks on BSD400: one, to weights that can be shipped; or several with an equal budget, scored side by side.

Everything goes under the working directory: weights/ with data and option files, experiments/, and results/ with
tables, scores and curves. What is finished is not trained again; what was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv
from trainings.data import PHOTOGRAPHS, suited_photographs
from trainings.experiments import ALL_IN_ONE, MIXTURES, TASKS, VARIANTS, Group, Row, all_in_one, mixing, recipes, tasks
from trainings.files import read_yaml
from trainings.tables import tabulate
from trainings.training import SAVING, Plan, Training

EPILOG = """\
  python3 scripts/experiment.py weights options/train_SemanIR_mini_SRx4.yml --data DIR --minutes 90
  python3 scripts/experiment.py recipes options/train_{SemanIR,SwinIR}_mini_SRx4.yml --data DIR --iterations 1500
  python3 scripts/experiment.py recipes options/train_SemanIR_mini_SRx4.yml --variants all --data DIR --minutes 15
  python3 scripts/experiment.py tasks rain Demosaic --data DIR
  python3 scripts/experiment.py mixing --data DIR --seeds 0 1
  python3 scripts/experiment.py all-in-one --data DIR --iterations 2000

DIR has train/BSD400, and test/Set5, test/Set12 and whatever else is scored, folders of images.
"""
WEIGHTS = """\
Without --iterations as many are trained as fit into the minutes of the first call; the recipe's schedule is shortened
alike. weights/NAME/parts, written anew every minute, has all that another machine needs to go on, in files of less than
16 MB: with --start it goes on from there, also after a kill. What is finished is trained longer as a new training, with
a schedule of its own, from the weights of the old one: --weights. These may be of a network for another scale, or for
colour where the recipe's is for gray: layers are made to fit, or begin anew where nothing does, and this is told.
"""
FOREVER = 1e9  # seconds
USUAL_ITERATIONS = {"tasks": 500, "mixing": 400, "all-in-one": 2000}
EXPERIMENTS: dict[str, tuple[str, Sequence[str] | Mapping[str, Any], Callable[[Sequence[str]], list[Group]]]] = {
    "tasks": ("reduced networks, a task each", TASKS, tasks),
    "mixing": ("mixed networks beside their hosts", MIXTURES, mixing),
    "all-in-one": ("one network for several degradations, beside one for each", ALL_IN_ONE, all_in_one),
}
NEEDED_ITERATIONS = {"reduced_Demosaic": 3600}


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and score; return the exit code."""
    args = parse_arguments(argv)
    run_in_venv()
    from semanir_plugin.errors import UserError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the training is told, and saves
    try:
        args.run(args)
    except UserError as error:
        print(f"experiment: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # it has said why
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    form: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=EPILOG, **form)
    kinds = parser.add_subparsers(metavar="EXPERIMENT", required=True)
    one = kinds.add_parser("weights", help="train one recipe to weights that can be shipped", epilog=WEIGHTS, **form)
    one.add_argument("recipe", type=_file, metavar="RECIPE", help="an option file, options/train_*.yml")
    one.add_argument("--start", type=Path, metavar="PARTS", help="folder of parts to go on from")
    one.add_argument("--weights", type=_file, metavar="FILE", help="weights to begin with, of a network like it")
    kinds_of_photographs = "usual, at three sizes; halved, without what JPEG did to their colours; downpour"
    one.add_argument("--photographs", choices=PHOTOGRAPHS, help=f"{kinds_of_photographs} (halved to demosaick)")
    one.add_argument("--parts", type=Path, metavar="FOLDER", help="where parts go (weights/NAME/parts)")
    one.add_argument("--batch", type=_count, metavar="N", help="images in a step (the recipe's)")
    one.add_argument("--patch", type=_count, metavar="N", help="side of the ground truth's patches (the recipe's)")
    one.add_argument("--validations", type=_count, default=20, metavar="N", help="of a training, on few images (20)")
    one.set_defaults(run=train_weights)
    some = kinds.add_parser("recipes", help="recipes, and variants of the first, by an equal budget", **form)
    some.add_argument("recipes", type=_file, nargs="+", metavar="RECIPE", help="option files of one scale")
    names = ("all", *VARIANTS)
    some.add_argument("--variants", nargs="+", default=[], choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    some.add_argument("--teacher", type=_file, metavar="FILE", help="weights that one more variant learns from")
    some.set_defaults(run=compare, groups=lambda args: recipes(args.recipes, args.variants, args.teacher))
    for kind, (about, known, make) in EXPERIMENTS.items():
        each = kinds.add_parser(kind, help=about, **form)
        each.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)} (all)")
        each.set_defaults(run=compare, known=known, groups=lambda args, make=make: make(args.names or list(args.known)))
    for kind, each in kinds.choices.items():
        _add_shared(each, kind)
    args = parser.parse_args(argv)
    _check(args, kinds.choices[args.kind])
    return args


def _add_shared(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add the flags of all experiments."""
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    also = "images to train on beside BSD400, as scripts/debian_pictures.py collects them"
    parser.add_argument("--also", type=_folder, nargs="+", default=[], metavar="FOLDER", help=also)
    parser.add_argument("--iterations", type=_count, metavar="N", help="of each training")
    parser.add_argument("--minutes", type=_minutes, metavar="M", help="of each training; the data's included at first")
    suited = "bf16 is faster where lscpu has the flag avx512_bf16 or amx_bf16, and slower elsewhere"
    parser.add_argument("--amp", choices=("bf16", "fp16"), help=f"precision of steps (the recipe's); {suited}")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), metavar="N", help="that read images, 0: none")
    if kind != "weights":
        parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="one training each (0)")
    parser.set_defaults(kind=kind)


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400 and test/Set5 and others; see --help")
    if len({"BSD400", *(folder.name for folder in args.also)}) <= len(args.also):
        parser.error(
            "--also takes folders of different names, none of them BSD400: what is made of them is named by them"
        )
    if args.kind == "weights" and args.minutes is None:
        parser.error("--minutes is needed")
    if args.kind == "recipes" and (args.minutes is None) == (args.iterations is None):
        parser.error("give one of --iterations and --minutes")
    if unknown := [name for name in getattr(args, "names", ()) if name not in args.known]:
        parser.error(f"unknown name {unknown[0]!r}: it is one of {', '.join(args.known)}")
    if args.kind == "all-in-one" and len(args.names) == 1:
        parser.error("one network for several degradations needs two names or more, or none for all")


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return Path(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{text}'")
    return int(text)


def _minutes(text: str) -> float:
    if not float(text) > SAVING / 60:
        raise argparse.ArgumentTypeError(f"must be more than {SAVING / 60:.1f}")
    return float(text)


def train_weights(args: argparse.Namespace) -> None:
    """Train one recipe until the time is over, or the training."""
    deadline = time.monotonic() + 60 * args.minutes - SAVING
    plan = Plan(**{each.name: getattr(args, each.name) for each in fields(Plan)})
    recipe = read_yaml(args.recipe)
    photographs = PHOTOGRAPHS[args.photographs] if args.photographs else suited_photographs(recipe)
    Training(args.recipe.stem.removeprefix("train_"), recipe, plan, photographs).train(deadline)


def compare(args: argparse.Namespace) -> None:
    """Train all networks of an experiment for each seed, then score them."""
    from semanir_plugin.errors import require_package

    require_package("matplotlib", "a plot of the trainings")
    for group in args.groups(args):
        trained: dict[str, list[Training]] = {row.key: [] for row in group.rows}
        for seed in args.seeds:
            for row in group.rows:
                trained[row.key].append(train(group, row, seed, args))
        print(tabulate(group, trained, args.seeds, args.data))


def train(group: Group, row: Row, seed: int, args: argparse.Namespace) -> Training:
    """Train one network, or go on with it; return its training."""
    usual = NEEDED_ITERATIONS.get(group.name, USUAL_ITERATIONS.get(args.kind))
    iterations = args.iterations or (None if args.minutes else usual)
    minutes = row.times * args.minutes if args.minutes else None
    iterations = row.times * iterations if iterations else None
    budget = f"{iterations}it" if iterations else f"{minutes:g}min"
    plan = Plan(data=args.data, also=args.also, iterations=iterations, workers=args.workers, amp=args.amp)
    name = f"{row.key}_{budget}_seed{seed}"
    training = Training(name, row.recipe | {"manual_seed": seed}, plan, row.photographs)
    seconds = 60 * minutes - SAVING if minutes else FOREVER
    while not training.result.exists():
        print(f"\n== {row.label}, seed {seed}", flush=True)
        training.train(time.monotonic() + seconds)
        seconds = FOREVER  # what the time cut off of a schedule is trained all the same; the table tells the time
    return training


if __name__ == "__main__":
    sys.exit(main())
