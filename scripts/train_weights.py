"""Trains a recipe on BSD400 for a time that is given, and makes of it weights that can be shipped.

Data, runs and results go under the working directory: weights/data, experiments, weights/NAME. Called again, it goes
on; weights/NAME/parts has all that another machine needs for that, in files of less than 16 MB.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv
from reduced_trainings import read_yaml

EPILOG = """\
  python3 scripts/train_weights.py options/train_SemanIR_mini_SRx4.yml --data DIR --minutes 90
  python3 scripts/train_weights.py options/train_SemanIR_light_SRx4.yml --data DIR --minutes 10 --iterations 60000

DIR has train/BSD400 and test/Set5 and others, folders of images. Without --iterations as many are trained as fit into
the minutes of the first call; the recipe's schedule is shortened alike. With --start it goes on from weights/NAME/parts
of another machine.
"""
# Photographs are learnt from at these sizes too: finer detail, and none of what JPEG left.
SCALES = (1.0, 0.8, 0.6)
# Times the usual number of drops, from a drizzle to a downpour, in turn over images and their sizes.
RAIN = (0.5, 1.0, 2.0, 4.0)
CROP = 240  # side of the sub-images that are stored
TRIAL = 40  # iterations by which the time of one is judged
VALIDATIONS = 20
SAVING = 20  # seconds that are left for the last checkpoint
PART = 15_000_000  # bytes


def main() -> int:
    """Train until the time is over, or the training; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    from semanir_plugin.errors import UserError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the training is told, and saves
    deadline = time.monotonic() + 60 * args.minutes - SAVING
    try:
        Weights(args).train(deadline)
    except UserError as error:
        print(f"train_weights: {error}", file=sys.stderr)
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
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="an option file, options/train_*.yml")
    parser.add_argument("--minutes", type=float, required=True, help="how long this call may take, data included")
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    parser.add_argument("--iterations", type=int, help="of the whole training (default: what fits into the minutes)")
    parser.add_argument("--start", type=Path, metavar="PARTS", help="folder of parts to go on from")
    parser.add_argument("--workers", type=int, default=1, help="that read images (default: 1)")
    args = parser.parse_args()
    if not args.recipe.is_file():
        parser.error(f"{args.recipe}: no such file; name an option file")
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400 and test/Set5; see --help")
    if args.minutes <= SAVING / 60 or (args.iterations is not None and args.iterations < 1):
        parser.error(f"--minutes must be more than {SAVING / 60:.1f}, and --iterations at least 1")
    return args


class Weights:
    """One training, from a recipe to a file of weights.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.name = args.recipe.stem.removeprefix("train_")
        self.folder = Path("weights", self.name)
        self.run = Path("experiments", self.name)
        self.opt = self.folder / f"{self.name}.yml"
        self.facts = self.folder / "training.json"
        self.result = self.folder / f"{self.name}.safetensors"

    def train(self, deadline: float) -> None:
        """Train on, and leave parts, facts and, at the end, weights."""
        import torch
        from measuring import describe_machine

        from semanir_plugin.files import write_atomic

        if self.args.start:
            unpack(self.args.start)
        self._prepare(deadline)
        start, done = time.monotonic(), self._iterations_done()
        finished = self._train_until(deadline)
        facts = json.loads(self.facts.read_text())
        facts["calls"].append(
            {
                "machine": describe_machine("cuda" if torch.cuda.is_available() else "cpu"),
                "iterations": self._iterations_done() - done,
                "seconds": time.monotonic() - start,
            }
        )
        write_atomic(json.dumps(facts, indent=1).encode(), self.facts)
        pack([self.opt, self.facts, *self._newest()], self.folder / "parts")
        trained = f"{self._iterations_done():,} of {facts['iterations']:,} iterations"
        if finished:
            self._export()
            print(f"{self.result}: weights after {trained}")
        else:
            print(f"{trained} are done; the same command goes on, elsewhere with --start {self.folder / 'parts'}")

    def _prepare(self, deadline: float) -> None:
        """Make the data, and the option file with as many iterations as fit, unless they are there."""
        from semanir_plugin.files import write_atomic

        options = self._options(make_training_set(self.recipe, self.args.data))
        if self.opt.exists():
            return
        iterations = self.args.iterations or self._fit(options, deadline)
        shorten(options, iterations)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(
            json.dumps({"recipe": self.args.recipe.name, "iterations": iterations, "calls": []}).encode(), self.facts
        )
        write_atomic(dump(options), self.opt)

    @property
    def recipe(self) -> dict[str, Any]:
        """What the recipe says."""
        return read_yaml(self.args.recipe)

    def _options(self, training_set: dict[str, Any]) -> dict[str, Any]:
        options = self.recipe
        validation = make_validation_set(options, self.args.data)
        return options | {
            "name": self.name,
            "datasets": {"train": training_set | {"num_worker_per_gpu": self.args.workers}, "val": validation},
            "logger": options["logger"] | {"use_tb_logger": True, "keep_checkpoints": 2},
        }

    def _fit(self, options: dict[str, Any], deadline: float) -> int:
        """Return how many iterations the time allows, by the time that a few take."""
        trial = json.loads(json.dumps(options)) | {"name": f"trial_{self.name}", "val": None}
        shorten(trial, TRIAL)
        del trial["datasets"]["val"]
        path = Path("weights", f"{trial['name']}.yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dump(trial))
        basicsr("train", "-opt", str(path))
        seconds = read_seconds(Path("experiments", trial["name"]))
        iterations = round(max(deadline - time.monotonic(), 1) * 0.95 / seconds)
        print(f"{seconds:.3f} s for an iteration: {iterations:,} fit")
        return max(iterations, 1)

    def _train_until(self, deadline: float) -> bool:
        """Run `basicsr train` and tell it to stop when the time is over; return whether it came to its end."""
        command = [sys.executable, "-m", "semanir_plugin.cli", "train", "-opt", str(self.opt), "--auto_resume"]
        print("\n$ basicsr", *command[3:], flush=True)
        with subprocess.Popen(command) as process:
            try:
                code = process.wait(max(deadline - time.monotonic(), 0))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.send_signal(signal.SIGTERM)
                code = process.wait()
        # Told to stop it has saved and says 75; told while it was starting, it just ends.
        if code not in (0, 75, -signal.SIGTERM):
            raise subprocess.CalledProcessError(code, command)
        return code == 0

    def _iterations_done(self) -> int:
        return max((int(path.stem) for path in (self.run / "training_states").glob("*.state")), default=0)

    def _newest(self) -> list[Path]:
        done = self._iterations_done()
        if not done:
            return []
        best = (self.run / "models").glob("net_g_best.pth")
        return [self.run / "training_states" / f"{done}.state", self.run / "models" / f"net_g_{done}.pth", *best]

    def _export(self) -> None:
        from semanir_plugin.checkpoints import save_weights
        from semanir_plugin.models.checkpoints import load_network

        network, options = load_network(self.run / "models" / "net_g_latest.pth")
        save_weights(self.result, network, options)


def make_training_set(recipe: dict[str, Any], data: Path) -> dict[str, Any]:
    """Return the recipe's training set, moved to LMDBs of BSD400 that are made where they are missing."""
    dataset: dict[str, Any] = recipe["datasets"]["train"]
    scale, images = recipe.get("scale", 1), enlarge_set(data / "train" / "BSD400")
    if "dataroot_lq" not in dataset:
        clean = Path("weights", "data", "BSD400.lmdb")
        if not clean.exists():
            basicsr("lmdb", "-i", str(images), "-o", str(clean), "--crop", str(CROP))
        return dataset | {"dataroot_gt": str(clean), "io_backend": {"type": "lmdb"}}
    gt, lq = make_pairs(images, scale)
    return dataset | {"dataroot_gt": str(gt), "dataroot_lq": str(lq), "io_backend": {"type": "lmdb"}}


def make_pairs(images: Path, scale: int) -> tuple[Path, Path]:
    """Return LMDBs of ground truths and inputs: LR images, or rainy ones at scale 1."""
    from make_rain import write_rain_pairs

    from semanir_plugin.data.sr_pairs import find_images, write_sr_pairs

    folder = Path("weights", "data", f"BSD400_x{scale}" if scale > 1 else "BSD400_rain")
    gt, lq = folder / "GT.lmdb", folder / (f"LR_bicubic_X{scale}.lmdb" if scale > 1 else "LQ.lmdb")
    if gt.exists() and lq.exists():
        return gt, lq
    if scale > 1:
        write_sr_pairs(find_images(images), folder, scale, crop=CROP, lmdb=True)
    else:
        write_rain_pairs(str(images), folder / "images", 1, RAIN)
        inputs = [str(folder / "images" / each) for each in ("GT", "LQ")]
        basicsr("lmdb", "-i", *inputs, "-o", str(gt), str(lq), "--crop", str(CROP))
    return gt, lq


def enlarge_set(images: Path) -> Path:
    """Return a folder of the photographs at several sizes, made where it is missing."""
    from PIL import Image
    from tqdm import tqdm

    folder = Path("weights", "data", f"{images.name}_sizes")
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    for path in tqdm(sorted(images.iterdir()), desc="Resizing", unit="image", disable=None):
        photo = Image.open(path).convert("RGB")
        for scale in SCALES:
            size = (round(photo.width * scale), round(photo.height * scale))
            smaller = photo if scale == 1 else photo.resize(size, Image.Resampling.LANCZOS)
            smaller.save(unfinished / f"{path.stem}_{round(100 * scale)}.png", compress_level=1)
    unfinished.rename(folder)
    return folder


def make_validation_set(recipe: dict[str, Any], data: Path) -> dict[str, Any]:
    """Return what a training is validated on, often and so on few images: Set5, or Set12 of gray ones."""
    from make_rain import write_rain_pairs

    train = recipe["datasets"]["train"]
    val: dict[str, Any] = next(each for phase, each in recipe["datasets"].items() if phase.partition("_")[0] == "val")
    name = "Set12" if train.get("num_channels") == 1 else "Set5"
    images, disk = (data / "test" / name).resolve(), {"name": name, "io_backend": {"type": "disk"}}
    if recipe.get("scale", 1) > 1:
        return {"type": "BicubicSRDataset", "dataroot_gt": str(images), **disk}
    if "dataroot_lq" not in train:
        return val | disk | {"dataroot_gt": str(images)}
    pairs = Path("weights", "data", f"{name}_rain")
    if not pairs.exists():
        write_rain_pairs(str(images), pairs, 2, RAIN)
    return val | disk | {"dataroot_gt": str(pairs / "GT"), "dataroot_lq": str(pairs / "LQ")}


def shorten(options: dict[str, Any], iterations: int) -> None:
    """Have a recipe train for so many iterations, its schedule shortened or stretched alike."""
    train, dataset = options["train"], options["datasets"]["train"]
    factor = iterations / train["total_iter"]

    def scaled(count: float) -> int:
        return max(1, round(count * factor))

    scheduler = train["scheduler"]
    for key in ("milestones", "periods", "restarts"):
        if key in scheduler:
            scheduler[key] = [scaled(each) if each else 0 for each in scheduler[key]]
    if "T_max" in scheduler:
        scheduler["T_max"] = scaled(scheduler["T_max"])
    if "iters" in dataset:
        dataset["iters"] = [scaled(each) for each in dataset["iters"]]
        dataset["iters"][-1] += iterations - sum(dataset["iters"])
    if train.get("warmup_iter", -1) > 0:
        train["warmup_iter"] = scaled(train["warmup_iter"])
    train["total_iter"] = iterations
    often = max(1, iterations // VALIDATIONS)
    if options.get("val"):
        options["val"]["val_freq"] = often
    options["logger"] |= {"save_checkpoint_freq": often, "print_freq": max(1, min(100, iterations // 4))}


def read_seconds(run: Path) -> float:
    """Return what an iteration took, by the last line of a run's log that tells."""
    times = re.findall(r"time \(data\): ([\d.]+)", max(run.glob("train_*.log")).read_text())
    return float(times[-1])


def pack(paths: list[Path], folder: Path) -> None:
    """Put files, under their paths, into parts of an archive; what the folder held is replaced."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in paths:
            tar.add(path)
    content = archive.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("part_*"):
        old.unlink()
    for index, start in enumerate(range(0, len(content), PART)):
        (folder / f"part_{index:03d}").write_bytes(content[start : start + PART])


def unpack(folder: Path) -> None:
    """Bring back, under the working directory, what `pack` put together."""
    from semanir_plugin.errors import UserError

    content = b"".join(path.read_bytes() for path in sorted(folder.glob("part_*")))
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(filter="data")
    except tarfile.TarError as error:
        raise UserError(f"{folder}: not the parts of a training ({error}); bring them here anew") from error


def dump(options: dict[str, Any]) -> bytes:
    """Return options as an option file."""
    import yaml

    return yaml.safe_dump(options, sort_keys=False).encode()


def basicsr(*arguments: str) -> None:
    """Run the `basicsr` command, shown as a user would type it."""
    print("\n$ basicsr", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "semanir_plugin.cli", *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
