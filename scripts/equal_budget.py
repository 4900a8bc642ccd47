"""Train networks on BSD400 with the same data, seeds and budget, and score them side by side.

Everything goes under the working directory: weights/ with data and option files, experiments/, and results/equal_budget
with table, scores and curves. What is finished is not trained again; what was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from bootstrap import run_in_venv
from reduced_trainings import read_yaml
from train_weights import SAVING, Plan, Weights, basicsr, dump

EPILOG = """\
  python3 scripts/equal_budget.py options/train_{SemanIR,SwinIR}_mini_SRx4.yml --data DIR --iterations 1500 --seeds 0 1
  python3 scripts/equal_budget.py options/train_SemanIR_mini_SRx4.yml --variants all --data DIR --iterations 1000
  python3 scripts/equal_budget.py options/train_{SemanIR,SwinIR}_light_SRx4.yml --data DIR --minutes 60

DIR has train/BSD400 and test/{Set5,Set14,BSD100}, folders of images. With --minutes each training gets as many
iterations as fit, and its schedule is of that length.
"""
TEST_SETS = ("Set5", "Set14", "BSD100")
FOREVER = 1e9  # seconds
# The paper draws k from these shares of the largest one, which evaluation takes.
RANDOM_SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)

Options = dict[str, Any]


def with_window(side: int) -> Callable[[Options], Options]:
    """Return a variant with windows of another side and the same share of keys that are attended to."""
    return lambda net: {"window_size": side, "topk": net["topk"] * side**2 // net["window_size"] ** 2}


# The paper's ablations, and three of ours: by name, what becomes of `network_g`.
VARIANTS: dict[str, Callable[[Options], Options]] = {
    "random_topk": lambda net: {"topk": [max(1, round(share * net["topk"])) for share in RANDOM_SHARES]},
    "all_keys": lambda net: {"topk": net["window_size"] ** 2},
    "window_8": with_window(8),
    "window_16": with_window(16),
    "window_32": with_window(32),
    "cosine": lambda net: {"similarity": "cosine"},
    "shift_layer": lambda net: {"shift": "layer"},
    "shift_none": lambda net: {"shift": "none"},
    "from_noise": lambda net: {"interpolating_init": False},
    "factorised_bias": lambda net: {"position_bias": "factorised"},
}


@dataclass(frozen=True)
class Row:
    """A network of the table: a recipe and the changes to it."""

    recipe: Path
    variant: str | None = None

    @property
    def label(self) -> str:
        """The name in the table."""
        name = self.recipe.stem.removeprefix("train_")
        return f"{name}, {self.variant.replace('_', ' ')}" if self.variant else name

    def options(self) -> Options:
        """Return the recipe with the change made."""
        options = read_yaml(self.recipe)
        if self.variant:
            options["network_g"] |= VARIANTS[self.variant](options["network_g"])
        return options

    def changes(self) -> bool:
        """Return whether the variant is another network than the recipe's."""
        return self.options() != read_yaml(self.recipe)


def main() -> int:
    """Train and score; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    from semanir_plugin.errors import UserError

    try:
        rows = choose_rows(args)
        runs = {(row, seed): train(row, seed, args) for seed in args.seeds for row in rows}
        print(compare(runs, args))
    except UserError as error:
        print(f"equal_budget: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # it has said why
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    names = ", ".join(VARIANTS)
    parser.add_argument("recipes", type=Path, nargs="+", metavar="RECIPE", help="option files of one scale")
    parser.add_argument(
        "--variants", nargs="+", default=[], metavar="NAME", help=f"of the first recipe, a SemanIR: all, or of {names}"
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--iterations", type=int, help="of each training")
    budget.add_argument("--minutes", type=float, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training each (default: 0)")
    parser.add_argument("--workers", type=int, default=1, help="that read images (default: 1)")
    args = parser.parse_args()
    if unknown := [name for name in args.variants if name not in {"all", *VARIANTS}]:
        parser.error(f"unknown variant {unknown[0]!r}: it is all, or of {names}")
    if missing := [path for path in args.recipes if not path.is_file()]:
        parser.error(f"{missing[0]}: no such file; name option files")
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400 and test/Set5 and others; see --help")
    if args.iterations is not None and args.iterations < 1:
        parser.error("--iterations must be at least 1")
    if args.minutes is not None and args.minutes <= SAVING / 60:
        parser.error(f"--minutes must be more than {SAVING / 60:.1f}")
    return args


def choose_rows(args: argparse.Namespace) -> list[Row]:
    """Return the networks to train: the recipes, then the variants that are not the first recipe itself.

    Raises:
        UserError: A recipe is not for super-resolution, scales differ, or variants are asked of another network.
    """
    from semanir_plugin.errors import UserError

    recipes = [read_yaml(path) for path in args.recipes]
    scales = {options.get("scale", 1) for options in recipes}
    if len(scales) > 1 or scales == {1}:
        raise UserError("recipes must be for super-resolution, all by one factor; name others")
    if args.variants and recipes[0]["network_g"]["type"] != "SemanIR":
        raise UserError(f"{args.recipes[0]}: --variants are of a SemanIR; name such a recipe first")
    names = list(VARIANTS) if "all" in args.variants else args.variants
    variants = [Row(args.recipes[0], name) for name in names]
    return [*(Row(path) for path in args.recipes), *(row for row in variants if row.changes())]


def train(row: Row, seed: int, args: argparse.Namespace) -> Weights:
    """Train one network, or go on with it; return its training."""
    budget = f"{args.iterations}it" if args.iterations else f"{args.minutes:g}min"
    name = "_".join(filter(None, [row.recipe.stem, row.variant, budget, f"seed{seed}"]))
    recipe = Path("weights", "equal_budget", f"{name}.yml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_bytes(dump(row.options() | {"manual_seed": seed}))
    training = Weights(Plan(recipe=recipe, data=args.data, iterations=args.iterations, workers=args.workers))
    seconds = 60 * args.minutes - SAVING if args.minutes else FOREVER
    while not training.result.exists():
        print(f"\n== {row.label}, seed {seed}", flush=True)
        training.train(time.monotonic() + seconds)
        seconds = FOREVER  # what the time cut off of a schedule is trained all the same; the table tells the time
    return training


def compare(runs: dict[tuple[Row, int], Weights], args: argparse.Namespace) -> str:
    """Score all by a leaderboard and draw their curves; return the table, which is also written."""
    from semanir_plugin.atomic_io import write_atomic

    names = {f"{row.label}, seed {seed}": training for (row, seed), training in runs.items()}
    opt = Path("weights", "equal_budget", "leaderboard.yml")
    opt.write_bytes(dump(make_board(names, next(iter(runs))[0], args)))
    basicsr("leaderboard", "-opt", str(opt))
    folder = Path("results", "equal_budget")
    curves = [str(training.run) for training in names.values()]
    basicsr("curves", *curves, "--names", *names, "-o", str(folder / "curves.png"))
    measured = {each["model"]: each for each in json.loads((folder / "results.json").read_text())["rows"]}
    table = "\n".join(make_table(runs, measured, args.seeds))
    write_atomic(f"{table}\n".encode(), folder / "table.md")
    return f"\n{folder}: table.md, curves.png, results.html\n\n{table}"


def make_board(names: dict[str, Weights], row: Row, args: argparse.Namespace) -> Options:
    """Return the options of the leaderboard: bicubic enlargement, and the averaged weights of each training."""
    models = {name: {"weights": str(training.result)} for name, training in names.items()}
    return {
        "name": "equal_budget",
        "title": "Networks at an equal budget",
        "task": "sr",
        "protocol": "sr_y_crop",
        "scale": read_yaml(row.recipe)["scale"],
        "models": {"bicubic": {"classical": "bicubic"}, **models},
        "test_sets": {name: {"gt": str((args.data / "test" / name).resolve())} for name in TEST_SETS},
        "published": False,
        "cost": {"size": [64, 64], "runs": 5, "warm_up": 2},
        "save_images": False,
    }


def make_table(
    runs: dict[tuple[Row, int], Weights], measured: dict[str, Options], seeds: Sequence[int]
) -> Iterator[str]:
    """Yield the lines of a Markdown table: means over the seeds, and half of what PSNR spans."""
    yield f"| network | parameters | mult-adds | training | {' | '.join(TEST_SETS)} |"
    yield f"|---|---:|---:|---:|{'---:|' * len(TEST_SETS)}"
    yield f"| bicubic | 0 | | | {' | '.join(map(score_cell, collect([measured['bicubic']])))} |"
    for row in dict.fromkeys(row for row, _ in runs):
        scores = [measured[f"{row.label}, seed {seed}"] for seed in seeds]
        calls = [read_facts(runs[row, seed]) for seed in seeds]
        iterations, minutes = (mean(each[index] for each in calls) for index in (0, 1))
        cells = " | ".join(map(score_cell, collect(scores)))
        cost = f"{scores[0]['parameters']:,} | {scores[0]['mult_adds'] / 1e9:.2f} G"
        yield f"| {row.label} | {cost} | {iterations:,.0f} in {minutes:.0f} min | {cells} |"


def collect(scores: Sequence[Options]) -> list[dict[str, list[float]]]:
    """Return PSNR and SSIM of every seed, by test set."""
    cells = [[each["cells"][name]["scores"] for each in scores] for name in TEST_SETS]
    return [{metric: [each[metric] for each in cell] for metric in ("psnr", "ssim")} for cell in cells]


def score_cell(scores: dict[str, list[float]]) -> str:
    """Return means over seeds; with several, also half the range of PSNR."""
    psnr = scores["psnr"]
    spread = f" ± {(max(psnr) - min(psnr)) / 2:.2f}" if len(psnr) > 1 else ""
    return f"{mean(psnr):.2f}{spread} / {mean(scores['ssim']):.4f}"


def read_facts(training: Weights) -> tuple[int, float]:
    """Return iterations and minutes of a training."""
    facts = json.loads(training.facts.read_text())
    return facts["iterations"], sum(call["seconds"] for call in facts["calls"]) / 60


if __name__ == "__main__":
    sys.exit(main())
