"""Trains a reduced SemanIRUNet on the shipped recipes for some minutes, and scores it beside its degraded input.

Makes its option files of options/{train,test}_SemanIRUNet_TASK.yml and of a folder of data as the tests take it, with
train/BSD400 and test/{Set12,McMaster,classic5}. Everything goes under the working directory: reduced/, experiments/,
results/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bootstrap import ROOT, run_in_venv

# The test set of each task, of those that are likely to be at hand.
TASKS = {
    "gray_DN25": "Set12",
    "color_DN25": "McMaster",
    "gray_JPEG10": "classic5",
    "Demosaic": "McMaster",
}
NETWORK = {
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "refinement_depth": 1,
    "head_dim": 16,
    "window_sizes": [16, 16, 8, 8],
    "topk": 64,
}
PATCH, BATCH, LEARNING_RATE = 64, 4, 1e-3
# Padding and crops to compare are made by it too, and it leaves images as they are.
IDENTITY = {"type": "Bicubic", "upscale": 1}


def main() -> int:
    """Run the tasks; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    try:
        rows = [run_task(task, args) for task in args.tasks]
    except subprocess.CalledProcessError as error:  # it has said why
        return error.returncode
    except KeyboardInterrupt:
        return 130
    print(f"\n{'task':12s} {'test set':10s} {'input':>16s} {'restored':>16s}   gain  seconds of training")
    for row in rows:
        print(row)
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = ", ".join(TASKS)
    parser.add_argument("tasks", nargs="*", metavar="TASK", default=list(TASKS), help=f"of {names}; default: all")
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    parser.add_argument("--iterations", type=int, default=500, help="of training (default: 500)")
    args = parser.parse_args()
    if unknown := [task for task in args.tasks if task not in TASKS]:
        parser.error(f"unknown task {unknown[0]!r}: it is one of {names}")
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400 and test/...; see the top of this script")
    return args


def run_task(task: str, args: argparse.Namespace) -> str:
    """Train, score and return the row of the table."""
    train, test, degraded = make_options(task, args)
    start = time.monotonic()
    basicsr("train", train)
    seconds = time.monotonic() - start
    basicsr("test", degraded)
    basicsr("test", test)
    before, after = read_scores(f"reduced_{task}_input"), read_scores(f"reduced_{task}_test")
    cells = [f"{each['psnr']:.2f} / {each['ssim']:.4f}".rjust(16) for each in (before, after)]
    gain = after["psnr"] - before["psnr"]
    return f"{task:12s} {TASKS[task]:10s} {cells[0]} {cells[1]}  {gain:+.2f}  {seconds:.0f}"


def make_options(task: str, args: argparse.Namespace) -> list[Path]:
    """Write the option files: to train, to score what was trained, and to score the degraded input."""
    train, test = (read(f"{phase}_SemanIRUNet_{task}.yml") for phase in ("train", "test"))
    name, period = f"reduced_{task}", args.iterations
    train["name"], train["num_gpu"] = name, 0
    train["network_g"] |= NETWORK
    train["datasets"] = {"train": reduced_dataset(train["datasets"]["train"], args)}
    train["train"] |= {"amp": None, "total_iter": period, "ema_decay": 0.99}
    train["train"]["optim_g"]["lr"] = LEARNING_RATE
    train["train"]["scheduler"]["T_max"] = period
    del train["val"]
    train["logger"] |= {"use_tb_logger": False, "save_checkpoint_freq": period}
    test |= {"name": f"{name}_test", "num_gpu": 0, "network_g": train["network_g"]}
    test["datasets"] = {"test": scored_dataset(test["datasets"], task, args)}
    test["path"]["pretrain_network_g"] = f"experiments/{name}/models/net_g_latest.pth"
    degraded = test | {"name": f"{name}_input", "network_g": IDENTITY, "path": {}}
    return [write(each) for each in (train, test, degraded)]


def reduced_dataset(dataset: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe's training set with one phase of small patches."""
    phases = {"gt_sizes": [PATCH], "batch_sizes_per_gpu": [BATCH], "iters": [args.iterations]}
    where = {"dataroot_gt": str(args.data / "train" / "BSD400"), "io_backend": {"type": "disk"}}
    return dataset | where | phases | {"num_worker_per_gpu": 1, "prefetch_mode": None}


def scored_dataset(datasets: dict[str, Any], task: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe's test set, moved to where its images are."""
    name = TASKS[task]
    dataset = next(each for each in datasets.values() if each["name"].split("_")[0] == name)
    return dataset | {"dataroot_gt": str(args.data / "test" / name)}


def read(name: str) -> dict[str, Any]:
    """Return a shipped option file."""
    import yaml

    options: dict[str, Any] = yaml.safe_load((ROOT / "options" / name).read_text())
    return options


def write(options: dict[str, Any]) -> Path:
    """Write an option file; return its path."""
    import yaml

    path = Path("reduced", f"{options['name']}.yml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def basicsr(subcommand: str, opt: Path) -> None:
    """Run the `basicsr` command, shown as a user would type it."""
    print(f"\n$ basicsr {subcommand} -opt {opt}", flush=True)
    subprocess.run([sys.executable, "-m", "semanir_plugin.cli", subcommand, "-opt", str(opt)], check=True)


def read_scores(name: str) -> dict[str, float]:
    """Return the metrics of one test run."""
    scores: dict[str, Any] = json.loads(Path("results", name, "metrics.json").read_text())
    return next(iter(scores.values()))


if __name__ == "__main__":
    sys.exit(main())
