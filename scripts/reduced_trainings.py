"""Train reduced networks on the shipped recipes for some minutes, and score them beside their degraded input.

Makes its option files of options/{train,test}_*.yml and of a folder of data as the tests take it, with train/BSD400 and
test/{Set12,McMaster,classic5,Kodak24}. Everything goes under the working directory: reduced/, experiments/, results/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import ROOT, run_in_venv


@dataclass(frozen=True)
class Task:
    """One task: its recipe, its most common test set, and the changes that make the training small."""

    recipe: str
    test_set: str
    network: dict[str, Any]
    patch: int = 64
    iterations: int = 500
    halved: bool = False  # whether it learns from photographs at half their size


UNET = {
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "refinement_depth": 1,
    "head_dim": 16,
    "window_sizes": [16, 16, 8, 8],
    "topk": 64,
}
# Errors of a single pixel: fine detail and many steps count, not what is far away.
SHALLOW = {
    "embed_dim": 16,
    "depths": [2, 1],
    "refinement_depth": 1,
    "head_dim": 16,
    "window_sizes": [8, 4],
    "topk": 32,
}
AST = {"img_size": 64, "embed_dim": 16, "depths": [1] * 5, "num_heads": [1, 2, 4, 4, 2], "drop_path_rate": 0.0}
TASKS = {
    "gray_DN25": Task("SemanIRUNet_gray_DN25", "Set12", UNET),
    "color_DN25": Task("SemanIRUNet_color_DN25", "McMaster", UNET),
    "gray_JPEG10": Task("SemanIRUNet_gray_JPEG10", "classic5", UNET),
    # BSD400 are JPEG files, whose colours have half the resolution: a network learns from them that all colours do.
    "Demosaic": Task("SemanIRUNet_Demosaic", "McMaster", SHALLOW, patch=32, iterations=3600, halved=True),
    "rain": Task("AST_T_derain_SPAD", "Kodak24", AST),
}
BATCH, LEARNING_RATE = 4, 1e-3
# Times the usual number of drops: a downpour, about 19 dB on Kodak24.
RAIN = 4
# Leaves images as they are, and is scored by the same code.
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
    parser.add_argument("--iterations", type=int, help="of each training (default: as the task needs)")
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
    print(f"Comparison picture: {plot_comparison(task).resolve()}", flush=True)
    before, after = read_scores(f"reduced_{task}_input"), read_scores(f"reduced_{task}_test")
    cells = [f"{each['psnr']:.2f} / {each['ssim']:.4f}".rjust(16) for each in (before, after)]
    gain = after["psnr"] - before["psnr"]
    return f"{task:12s} {TASKS[task].test_set:10s} {cells[0]} {cells[1]}  {gain:+.2f}  {seconds:.0f}"


def make_options(task: str, args: argparse.Namespace) -> list[Path]:
    """Write the option files: to train, to score what was trained, and to score the degraded input."""
    recipe, name, total = TASKS[task].recipe, f"reduced_{task}", count_iterations(task, args)
    train, test = (read(f"{phase}_{recipe}.yml") for phase in ("train", "test"))
    train["name"], train["num_gpu"] = name, 0
    train["network_g"] |= TASKS[task].network
    train["datasets"] = {"train": reduced_dataset(train["datasets"]["train"], task, args)}
    train["train"] |= {"amp": None, "total_iter": total, "ema_decay": 0.99, "warmup_iter": total // 20 or -1}
    train["train"]["optim_g"]["lr"] = LEARNING_RATE
    train["train"]["scheduler"] = {"type": "CosineAnnealingLR", "T_max": total, "eta_min": 1e-6}
    del train["val"]
    train["logger"] |= {"use_tb_logger": False, "save_checkpoint_freq": total}
    test |= {"name": f"{name}_test", "num_gpu": 0, "network_g": train["network_g"]}
    test["datasets"] = {"test": scored_dataset(test["datasets"], task, args)}
    test["path"] |= {"pretrain_network_g": f"experiments/{name}/models/net_g_latest.pth", "param_key_g": "params_ema"}
    degraded = test | {"name": f"{name}_input", "network_g": IDENTITY, "path": {}}
    return [write(each) for each in (train, test, degraded)]


def count_iterations(task: str, args: argparse.Namespace) -> int:
    """Return the number of iterations for which a task is trained."""
    return args.iterations or TASKS[task].iterations


def reduced_dataset(dataset: dict[str, Any], task: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe's training set with one phase of small patches."""
    phases = {"gt_sizes": [TASKS[task].patch], "batch_sizes_per_gpu": [BATCH], "iters": [count_iterations(task, args)]}
    images = args.data / "train" / "BSD400"
    where = locate(dataset, halve(images) if TASKS[task].halved else images, "train", seed=1)
    return dataset | where | phases | {"num_worker_per_gpu": 1, "prefetch_mode": None}


def scored_dataset(datasets: dict[str, Any], task: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe's test set, moved to where its images are."""
    name = TASKS[task].test_set
    named = [each for each in datasets.values() if each["name"].split("_")[0] == name]
    dataset = (named or list(datasets.values()))[0]
    return dataset | {"name": name} | locate(dataset, args.data / "test" / name, "test", seed=2)


def locate(dataset: dict[str, Any], images: Path, phase: str, *, seed: int) -> dict[str, Any]:
    """Return where the images of a dataset are; pairs are made by synthetic rain, once."""
    from semanir_plugin.basicsr_host.data.rain_pairs import write_rain_pairs

    if "dataroot_lq" not in dataset:
        return {"dataroot_gt": str(images), "io_backend": {"type": "disk"}}
    pairs = Path("reduced", f"rain_{RAIN}", f"{phase}_{images.name}")
    if not pairs.exists():
        write_rain_pairs(str(images), pairs, seed, [RAIN])
    return {"dataroot_gt": str(pairs / "GT"), "dataroot_lq": str(pairs / "LQ"), "io_backend": {"type": "disk"}}


def halve(images: Path) -> Path:
    """Make a folder of photographs at half their size, once; return it."""
    from PIL import Image

    folder = Path("reduced", f"halved_{images.name}")
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.part")
        unfinished.mkdir(parents=True, exist_ok=True)
        for path in sorted(images.iterdir()):
            photo = Image.open(path).convert("RGB")
            photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.BOX).save(
                unfinished / f"{path.stem}.png"
            )
        unfinished.rename(folder)
    return folder


def read(name: str) -> dict[str, Any]:
    """Return the options of a shipped file as `basicsr train` or `basicsr test` reads them."""
    from semanir_plugin.basicsr_host.engine.run import read_run_options

    return read_run_options(ROOT / "options" / name, is_train=name.startswith("train_")).data


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the options of a file, on top of its base."""
    from semanir_plugin.option_files import read_option_file

    return read_option_file(path).data


def write(options: dict[str, Any]) -> Path:
    """Write an option file; return its path."""
    import yaml

    path = Path("reduced", f"{options['name']}.yml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def basicsr(subcommand: str, opt: Path) -> None:
    """Run the `basicsr` command, shown as a user would type it."""
    print(f"\n$ basicsr {subcommand} -opt {opt}", flush=True)
    subprocess.run([sys.executable, "-m", "semanir_plugin.cli", subcommand, "-opt", str(opt)], check=True)


def plot_comparison(task: str) -> Path:
    """Plot input, result and truth of the first three images of the test set; return where."""
    import numpy as np
    from PIL import Image

    from semanir_plugin.evaluation.pictures import Comparison, compare_crops

    options = read_yaml(Path("reduced", f"reduced_{task}_test.yml"))["datasets"]["test"]
    rows = []
    for path in sorted(Path(options["dataroot_gt"]).iterdir())[:3]:
        versions = {}
        for label, run in (("input", f"reduced_{task}_input"), ("restored", f"reduced_{task}_test")):
            images = Path("results", run, "visualization", options["name"])
            versions[label] = np.asarray(Image.open(images / f"{path.stem}_{run}.png").convert("RGB"))
        truth = np.asarray(Image.open(path).convert("RGB"))
        rows.append(Comparison(path.stem, truth, {**versions, "ground truth": truth}))
    picture = Path("results", f"reduced_{task}_test", "comparison.png")
    compare_crops(rows).save(picture)
    return picture


def read_scores(name: str) -> dict[str, float]:
    """Return the metrics of one test run."""
    scores: dict[str, Any] = json.loads(Path("results", name, "metrics.json").read_text())
    return next(iter(scores.values()))


if __name__ == "__main__":
    sys.exit(main())
