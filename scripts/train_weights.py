"""Train a recipe on BSD400 for a given time, and make weights of it that can be shipped.

Data, runs and results go under the working directory: weights/data, experiments, weights/NAME. Called again, it goes
on; weights/NAME/parts, written anew every minute, has all that another machine needs for that, in files of less than
16 MB.
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
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv
from reduced_trainings import read_yaml

EPILOG = """\
  python3 scripts/train_weights.py options/train_SemanIR_mini_SRx4.yml --data DIR --minutes 90
  python3 scripts/train_weights.py options/train_SemanIR_light_SRx4.yml --data DIR --minutes 10 --iterations 60000

DIR has train/BSD400 and test/Set5 and others, folders of images. Without --iterations as many are trained as fit into
the minutes of the first call; the recipe's schedule is shortened alike. With --start it goes on from weights/NAME/parts
of another machine, also of one that was killed. What is finished is trained longer as a new training, with a schedule
of its own, from the weights of the old one: --weights.
"""
# Photographs are learnt from at these sizes too: finer detail, and none of what JPEG left.
SCALES = (1.0, 0.8, 0.6)
# Times the usual number of drops, from a drizzle to a downpour, in turn over images and their sizes.
RAIN = (0.5, 1.0, 2.0, 4.0)
CROP = 240  # side of the sub-images that are stored
TRIAL = 40  # iterations by which the time of one is judged
SAVING = 20  # seconds that are left for the last checkpoint
CHECKPOINT_SECONDS = 60  # after which there is another one, and parts of it
LOOKING = 2.0  # seconds from one look for a checkpoint to the next
PART = 15_000_000  # bytes
PART_NAME = re.compile(r"part_(?P<set>\d+)_(?P<index>\d+)_of_(?P<count>\d+)")


def main() -> int:
    """Train until the time is over, or the training; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    from semanir_plugin.errors import UserError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the training is told, and saves
    deadline = time.monotonic() + 60 * args.minutes - SAVING
    try:
        Weights(Plan.of(args)).train(deadline)
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
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights to begin with, .safetensors or .pth")
    parser.add_argument("--parts", type=Path, metavar="FOLDER", help="where parts go (default: weights/NAME/parts)")
    parser.add_argument("--batch", type=int, help="images in a step (default: the recipe's)")
    parser.add_argument("--patch", type=int, help="side of the ground truth's patches (default: the recipe's)")
    parser.add_argument("--validations", type=int, default=20, help="of a training, on few images (20)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="that read images (default: one per core)")
    args = parser.parse_args()
    if not args.recipe.is_file():
        parser.error(f"{args.recipe}: no such file; name an option file")
    if args.weights is not None and not args.weights.is_file():
        parser.error(f"--weights: {args.weights}: no such file")
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400 and test/Set5; see --help")
    if args.minutes <= SAVING / 60:
        parser.error(f"--minutes must be more than {SAVING / 60:.1f}")
    counts = (args.iterations, args.batch, args.patch, args.validations)
    if min(each for each in counts if each is not None) < 1:
        parser.error("--iterations, --batch, --patch and --validations must be at least 1")
    if args.workers < 0:
        parser.error("--workers must be at least 0: 0 reads in the process that trains")
    return args


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plan of a training: the arguments of the command line, whose help describes them."""

    recipe: Path
    data: Path
    iterations: int | None = None
    start: Path | None = None
    weights: Path | None = None
    parts: Path | None = None
    batch: int | None = None
    patch: int | None = None
    validations: int = 20
    workers: int = os.cpu_count() or 1

    @classmethod
    def of(cls, args: argparse.Namespace) -> Plan:
        """Return the plan of a command line."""
        return cls(**{each.name: getattr(args, each.name) for each in fields(cls)})


class Weights:
    """One training, from a recipe to a file of weights.

    Args:
        plan: What is trained.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.name = plan.recipe.stem.removeprefix("train_")
        self.folder = Path("weights", self.name)
        self.run = Path("experiments", self.name)
        self.opt = self.folder / f"{self.name}.yml"
        self.facts = self.folder / "training.json"
        self.parts = plan.parts or self.folder / "parts"
        self.result = self.folder / f"{self.name}.safetensors"
        self.start = time.monotonic()
        self.before: list[dict[str, Any]] = []

    def train(self, deadline: float) -> None:
        """Train on, and leave parts, facts and, at the end, weights."""
        if self.plan.start:
            unpack(self.plan.start)
        self._prepare(deadline)
        self.start, self.before = time.monotonic(), json.loads(self.facts.read_text())["calls"]
        finished = self._train_until(deadline)
        self._leave_parts()
        trained = f"{self._iterations_done():,} of {json.loads(self.facts.read_text())['iterations']:,} iterations"
        if finished:
            self._export()
            print(f"{self.result}: weights after {trained}")
        else:
            print(f"{trained} are done; the same command goes on, elsewhere with --start {self.parts}")

    def _leave_parts(self) -> None:
        """Write down the progress of this call, and pack the files that another machine needs to go on."""
        import torch
        from measuring import describe_machine

        from semanir_plugin.atomic_io import write_atomic

        facts = json.loads(self.facts.read_text())
        call = {
            "machine": describe_machine("cuda" if torch.cuda.is_available() else "cpu"),
            "iterations": self._iterations_done() - sum(each["iterations"] for each in self.before),
            "seconds": time.monotonic() - self.start,
        }
        write_atomic(json.dumps(facts | {"calls": [*self.before, call]}, indent=1).encode(), self.facts)
        pack([self.opt, self.facts, *self._newest()], self.parts)

    def _prepare(self, deadline: float) -> None:
        """Make the data, and the option file with as many iterations as fit, unless they are there."""
        from semanir_plugin.atomic_io import write_atomic

        options = self._options(make_training_set(self.recipe, self.plan.data, max(1, self.plan.workers)))
        if self.opt.exists():
            return
        iterations = self.plan.iterations or self._fit(options, deadline)
        shorten(options, iterations, self.plan.validations)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(
            json.dumps({"recipe": self.plan.recipe.name, "iterations": iterations, "calls": []}).encode(), self.facts
        )
        write_atomic(dump(options), self.opt)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe's options."""
        return read_yaml(self.plan.recipe)

    def _options(self, training_set: dict[str, Any]) -> dict[str, Any]:
        options = self.recipe
        given = {"batch_size_per_gpu": self.plan.batch, "gt_size": self.plan.patch}
        training_set |= {key: value for key, value in given.items() if value is not None}
        training_set |= {"num_worker_per_gpu": self.plan.workers, "pin_memory": True, "prefetch_mode": "cuda"}
        options["train"] |= {"channels_last": True}
        options["train"]["optim_g"] |= {"fused": True}
        options["logger"] |= {"use_tb_logger": True, "keep_checkpoints": 2}
        options["logger"].setdefault("save_checkpoint_seconds", CHECKPOINT_SECONDS)
        if self.plan.weights:
            options["path"] |= {"pretrain_network_g": str(self.plan.weights.resolve()), "param_key_g": "params_ema"}
        validation = make_validation_set(options, self.plan.data)
        return options | {"name": self.name, "datasets": {"train": training_set, "val": validation}}

    def _fit(self, options: dict[str, Any], deadline: float) -> int:
        """Return the number of iterations that the time allows, by the time that a few take."""
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
            with suppress(KeyboardInterrupt):
                self._wait(process, deadline)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait()
        # Told to stop it has saved and says 75; told while it was starting, it just ends.
        if code not in (0, 75, -signal.SIGTERM):
            raise subprocess.CalledProcessError(code, command)
        return code == 0

    def _wait(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Wait for a training's end, or the deadline; of each checkpoint that it writes meanwhile, leave parts."""
        packed = self._iterations_done()
        while process.poll() is None and (left := deadline - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(left, LOOKING))
            if (done := self._iterations_done()) != packed:
                self._leave_parts()
                packed = done

    def _iterations_done(self) -> int:
        return max((int(path.stem) for path in (self.run / "training_states").glob("*.state")), default=0)

    def _newest(self) -> list[Path]:
        done = self._iterations_done()
        if not done:
            return []
        best = (self.run / "models").glob("net_g_best.pth")
        return [self.run / "training_states" / f"{done}.state", self.run / "models" / f"net_g_{done}.pth", *best]

    def _export(self) -> None:
        from semanir_plugin.inference.checkpoints import save_weights
        from semanir_plugin.inference.loading import load

        trained = load(self.run / "models" / "net_g_latest.pth", device="cpu")
        save_weights(self.result, trained.module, trained.options)


def make_training_set(recipe: dict[str, Any], data: Path, workers: int) -> dict[str, Any]:
    """Return the recipe's training set, moved to LMDBs of BSD400 that are made where they are missing."""
    dataset: dict[str, Any] = recipe["datasets"]["train"]
    scale, images = recipe.get("scale", 1), enlarge_set(data / "train" / "BSD400", workers)
    if "dataroot_lq" not in dataset:
        clean = Path("weights", "data", "BSD400.lmdb")
        if not clean.exists():
            basicsr("lmdb", "-i", str(images), "-o", str(clean), "--crop", str(CROP))
        return dataset | {"dataroot_gt": str(clean), "io_backend": {"type": "lmdb"}}
    gt, lq = make_pairs(images, scale, workers)
    return dataset | {"dataroot_gt": str(gt), "dataroot_lq": str(lq), "io_backend": {"type": "lmdb"}}


def make_pairs(images: Path, scale: int, workers: int) -> tuple[Path, Path]:
    """Return LMDBs of ground truths and inputs: LR images, or rainy ones at scale 1."""
    from semanir_plugin.basicsr_host.data.pairing import find_images
    from semanir_plugin.basicsr_host.data.rain_pairs import write_rain_pairs
    from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

    folder = Path("weights", "data", f"BSD400_x{scale}" if scale > 1 else "BSD400_rain")
    gt, lq = folder / "GT.lmdb", folder / (f"LR_bicubic_X{scale}.lmdb" if scale > 1 else "LQ.lmdb")
    if gt.exists() and lq.exists():
        return gt, lq
    if scale > 1:
        write_sr_pairs(find_images(images), folder, scale, crop=CROP, lmdb=True, raw=True, workers=workers)
    else:
        write_rain_pairs(str(images), folder / "images", 1, RAIN)
        inputs = [str(folder / "images" / each) for each in ("GT", "LQ")]
        basicsr("lmdb", "-i", *inputs, "-o", str(gt), str(lq), "--crop", str(CROP))
    return gt, lq


def enlarge_set(images: Path, workers: int) -> Path:
    """Return a folder of the photographs at several sizes, made where it is missing."""
    from tqdm import tqdm

    from semanir_plugin.basicsr_host.data.in_order import in_order

    folder = Path("weights", "data", f"{images.name}_sizes")
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    photos = sorted(images.iterdir())
    resized = in_order(lambda path: resize(path, unfinished), photos, workers)
    for _ in tqdm(resized, desc="Resizing", total=len(photos), unit="image", disable=None):
        pass
    unfinished.rename(folder)
    return folder


def resize(path: Path, folder: Path) -> None:
    """Write a photograph at several sizes, without spending time on compression."""
    from PIL import Image

    photo = Image.open(path).convert("RGB")
    for scale in SCALES:
        size = (round(photo.width * scale), round(photo.height * scale))
        smaller = photo if scale == 1 else photo.resize(size, Image.Resampling.LANCZOS)
        smaller.save(folder / f"{path.stem}_{round(100 * scale)}.bmp")


def make_validation_set(recipe: dict[str, Any], data: Path) -> dict[str, Any]:
    """Return the validation set, small since it is used often: Set5, or Set12 for gray images."""
    from semanir_plugin.basicsr_host.data.rain_pairs import write_rain_pairs

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


def shorten(options: dict[str, Any], iterations: int, validations: int = 1) -> None:
    """Set a recipe's number of iterations, and scale its schedule alike."""
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
    often = max(1, iterations // validations)
    if options.get("val"):
        options["val"]["val_freq"] = often
    options["logger"] |= {"save_checkpoint_freq": often, "print_freq": max(1, min(100, iterations // 4))}


def read_seconds(run: Path) -> float:
    """Return the seconds per iteration, by the last line of a run's log that has them."""
    times = re.findall(r"time \(data\): ([\d.]+)", max(run.glob("train_*.log")).read_text())
    return float(times[-1])


def pack(paths: list[Path], folder: Path) -> None:
    """Put files, under their paths, into parts of an archive: a whole set, and only then the one before is removed."""
    from semanir_plugin.atomic_io import write_atomic

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in paths:
            tar.add(path)
    content = archive.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    old = list_parts(folder)
    number, count = max(old, default=0) + 1, -(-len(content) // PART)
    for index in range(count):
        part = content[index * PART : (index + 1) * PART]
        write_atomic(part, folder / f"part_{number:05d}_{index + 1}_of_{count}")
    for path in chain.from_iterable(old.values()):
        path.unlink()


def list_parts(folder: Path) -> dict[int, list[Path]]:
    """Return the parts in a folder by the number of their set, rising, each set in order."""
    found = {path: match for path in folder.glob("part_*") if (match := PART_NAME.fullmatch(path.name))}
    ordered = sorted(found, key=lambda path: (int(found[path]["set"]), int(found[path]["index"])))
    return {number: list(paths) for number, paths in groupby(ordered, key=lambda path: int(found[path]["set"]))}


def unpack(folder: Path) -> None:
    """Unpack the files of `pack` under the working directory; of several sets, the last that is whole."""
    from semanir_plugin.errors import UserError

    sets = [parts for parts in list_parts(folder).values() if parts[-1].name.endswith(f"_{len(parts)}_of_{len(parts)}")]
    if not sets:
        raise UserError(f"{folder}: no whole set of parts of a training; bring them here anew")
    content = b"".join(path.read_bytes() for path in sets[-1])
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
