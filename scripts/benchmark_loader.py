"""Measure the training patches a second that one core reads, of the data that train_weights.py makes of BSD400.

A loader with W workers on as many cores yields W times as many, less what copying batches takes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bootstrap import run_in_venv


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="an option file, options/train_*.yml")
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    parser.add_argument("--patch", type=int, default=192, help="side of the ground truth's patches (192)")
    parser.add_argument("--samples", type=int, default=1000, help="patches that are read (1000)")
    args = parser.parse_args()
    if not args.recipe.is_file():
        parser.error(f"{args.recipe}: no such file; name an option file")
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400")
    run_in_venv()
    from semanir_plugin.evaluation.benchmark.measuring import describe_machine

    print(f"{describe_machine('cpu')}: {patches_per_second(args):,.0f} patches per second of one core")
    return 0


def patches_per_second(args: argparse.Namespace) -> float:
    """Return patches per second of processor time, in one thread, after as many that warm up."""
    import cv2
    import torch
    from trainings.data import make_training_set
    from trainings.files import read_yaml

    from semanir_plugin.basicsr_host.data.tolerant_dataset import TolerantDataset
    from semanir_plugin.basicsr_host.engine.run import build_guarded_dataset

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    recipe = read_yaml(args.recipe)
    options = make_training_set(recipe, [args.data / "train" / "BSD400"], os.cpu_count() or 1)
    more = {"phase": "train", "scale": recipe.get("scale", 1), "gt_size": args.patch}
    dataset = TolerantDataset(build_guarded_dataset(options | more))
    order = torch.randperm(len(dataset)).tolist()
    chosen = [order[index % len(order)] for index in range(args.samples)]
    for _ in range(2):
        start = time.process_time()
        for index in chosen:
            dataset[index]
        seconds = time.process_time() - start
    return len(chosen) / seconds


if __name__ == "__main__":
    sys.exit(main())
