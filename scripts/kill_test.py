"""Kill a small training at random moments, resume it until it is done, and compare it with an undisturbed one.

The training has what a resume could lose: a network that draws k and the branches it leaves out, noise drawn for each
patch, patches that grow, MixUp, accumulation, a warm-up, a cosine, an average of the weights, and a best network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap import ROOT, run_in_venv

NAME = "kill_test"
SAVE_EVERY, VALIDATE_EVERY, KEEP = 2, 6, 3
VALIDATION_IMAGES = 4
# Iterations for each kill: more than a life can have, so that the training is not done before the last one.
PER_KILL = 10
# When a life ends, one after another: in a validation, as it writes a checkpoint, as it writes one that a signal asked
# for, between two iterations or within one, as it starts.
MOMENTS = ("validating", "writing", "stopping", "training", "starting")
MISSING = object()
CHECKPOINTS, RESULTS = ("models/.*", "models/*", "training_states/.*", "training_states/*"), ("visualization/*/*",)
ITERATION = re.compile(r"\[epoch:.*?, iter: *([\d,]+), (lr:\(.*?\)\]).*\] (l_pix: .*)")
# What is logged of an iteration: its losses, that its validation is made up for, and the scores of its validation.
LOGGED = re.compile(
    rf"{ITERATION.pattern}|Iteration ([\d,]+) is yet to be validated|Validation val\n\t # (psnr: .*)", re.MULTILINE
)


@dataclass
class Result:
    """Outcome of a training with some number of workers.

    Attributes:
        kills: By moment.
        caught: Kills that left a half-written file.
        unvalidated: Kills that left a checkpoint whose validation is still to be done.
        resumes: Starts that found a checkpoint.
        damaged: Checkpoints that were not whole after a kill.
        compared: Values and tensors that were compared.
        differences: Where those of the two trainings differ.
    """

    kills: Counter[str] = field(default_factory=Counter)
    caught: int = 0
    unvalidated: int = 0
    resumes: int = 0
    damaged: list[str] = field(default_factory=list)
    compared: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        moments = ", ".join(f"{self.kills[moment]} {moment}" for moment in sorted({*MOMENTS}))
        return (
            f"{self.kills.total()} kills ({moments}; {self.caught} left a half-written file, {self.unvalidated} "
            f"an unfinished validation), {self.resumes} resumes, {len(self.damaged)} damaged checkpoints, "
            f"{self.compared:,} values compared, {len(self.differences)} differences"
        )


def main() -> int:
    """Run the test; return the exit code: 1 where something was damaged or differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=20, help="for each number of workers (default: 20)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="num_worker_per_gpu (default: 0 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    args = parser.parse_args()
    run_in_venv()
    failed = False
    for workers in args.workers:
        folder = Path(tempfile.mkdtemp(prefix="kill_test_"))
        result = run_test(folder, args.kills, workers, random.Random(f"{args.seed}/{workers}"))
        print(f"num_worker {workers}: {result}", flush=True)
        for line in [*result.damaged, *result.differences[:20]]:
            print(f"  {folder}: {line}", flush=True)
        if result.damaged or result.differences:
            failed = True
        else:
            shutil.rmtree(folder)
    return int(failed)


def run_test(folder: Path, kills: int, workers: int, moments: random.Random) -> Result:
    """Train undisturbed and with kills; return the outcome."""
    write_images(folder)
    options = recipe(folder, PER_KILL * (kills + 1), workers)
    (folder / f"{NAME}.yml").write_text(json.dumps(options))  # JSON is YAML
    straight, killed = Life(folder, "straight"), Life(folder, "killed")
    seconds = straight.run_to_the_end()
    result = Result()
    for moment in itertools.islice(itertools.cycle(MOMENTS), kills):
        killed.start()
        if not MOMENT_REACHED[moment](killed, moments, seconds):
            raise SystemExit(f"the training ended before kill {result.kills.total() + 1}: raise PER_KILL")
        killed.kill()
        result.kills[moment] += 1
        result.caught += any(killed.half_written())
        result.unvalidated += killed.is_unvalidated()
        result.damaged += find_damaged(killed.experiment)
    killed.run_to_the_end()
    result.resumes = sum("Resuming from" in text for text in killed.logs())
    for place, same in compare(straight, killed):
        result.compared += 1
        result.differences += [] if same else [place]
    return result


class Life:
    """A training in a folder of its own, started again and again.

    Args:
        folder: Where the data and the option file are.
        name: The folder's name within it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.experiment = self.folder / "experiments" / NAME
        self.output = self.folder / "output.txt"

    def start(self) -> None:
        """Start it, or go on."""
        command = [sys.executable, "-m", "semanir_plugin.cli", "train", "-opt", str(self.folder.parent / f"{NAME}.yml")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--auto_resume"], cwd=self.folder, env=environment, stdout=output, stderr=output
            )

    def run_to_the_end(self) -> float:
        """Start it, or go on, and wait for its end; return the seconds until it trained."""
        began = time.monotonic()
        self.start()
        wait_until(self, lambda: self.iterations() >= 0)
        seconds = time.monotonic() - began
        if self.process.wait() != 0:
            raise SystemExit(f"the training failed: {self.said()}")
        return seconds

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        """Return the output since the last start."""
        return self.output.read_text()

    def iterations(self) -> int:
        """Return the number of iterations logged since the last start; -1: it does not train yet."""
        said = self.said()
        return len(ITERATION.findall(said)) if "Training on" in said else -1

    def half_written(self) -> Iterator[Path]:
        """Return files of checkpoints that are being written, or were when it was killed."""
        return itertools.chain(*(self.experiment.glob(f"{folder}/.*.tmp") for folder in ("models", "training_states")))

    def is_unvalidated(self) -> bool:
        """Return whether the last checkpoint awaits its validation."""
        from semanir_plugin.inference.safe_loading import load_checkpoint

        states = sorted(self.experiment.glob("training_states/*.state"), key=lambda path: int(path.stem))
        return bool(states) and not load_checkpoint(states[-1])["validated"]

    def last_written(self, image: int) -> int:
        """Return when a result of a validation image was last written, in nanoseconds; 0: none was."""
        folder = self.experiment / "visualization" / str(image)
        return folder.stat().st_mtime_ns if folder.is_dir() else 0

    def logs(self) -> list[str]:
        """Return the log of each start, also of those whose folder was set aside since it had no checkpoint yet."""
        return [path.read_text() for path in sorted(self.experiment.parent.glob("*/train_*.log"))]


def wait_until(life: Life, condition: Callable[[], bool]) -> bool:
    """Wait for something to happen in a running training; False: it ended before."""
    while not condition():
        if life.process.poll() is not None:
            return False
        time.sleep(0.0005)
    return True


def while_starting(life: Life, moments: random.Random, seconds: float) -> bool:
    """Wait for any moment before the first iteration, more or less."""
    time.sleep(moments.uniform(0, 1.2 * seconds))
    return life.process.poll() is None


def while_training(life: Life, moments: random.Random, seconds: float) -> bool:
    """Wait for any moment within some iterations."""
    count = moments.randrange(PER_KILL - 2)
    reached = wait_until(life, lambda: life.iterations() >= count)
    time.sleep(moments.uniform(0, 0.05))
    return reached and life.process.poll() is None


def while_writing(life: Life, moments: random.Random, seconds: float) -> bool:
    """Wait for a file of a checkpoint to be written."""
    count = moments.randrange(PER_KILL // 2)
    return wait_until(life, lambda: life.iterations() >= count) and wait_until(life, lambda: any(life.half_written()))


def while_validating(life: Life, moments: random.Random, seconds: float) -> bool:
    """Wait for the result of any image of a validation to be written."""
    image = moments.randrange(VALIDATION_IMAGES)
    before = life.last_written(image)
    return wait_until(life, lambda: life.last_written(image) > before)


def while_stopping(life: Life, moments: random.Random, seconds: float) -> bool:
    """Tell it to stop, and wait for a file of its last checkpoint to be written."""
    count = moments.randrange(PER_KILL // 2)
    while wait_until(life, lambda: life.iterations() >= count):
        life.process.terminate()
        if wait_until(life, lambda: any(life.half_written())):
            return True
        life.start()  # it had saved before that was seen
    return False


MOMENT_REACHED = {
    **{"starting": while_starting, "training": while_training, "validating": while_validating},
    **{"writing": while_writing, "stopping": while_stopping},
}


def write_images(folder: Path) -> None:
    """Write a few small photographs, H != W."""
    import skimage
    from skimage import io

    photos = Path(skimage.__file__).parent / "data"
    for phase, (count, height, width) in {"train": (5, 40, 52), "val": (VALIDATION_IMAGES, 28, 36)}.items():
        (folder / phase).mkdir()
        for index in range(count):
            image = io.imread(photos / ("astronaut.png", "chelsea.png")[index % 2])
            top = 60 + 20 * index
            crop = image[top : top + height, 100 : 100 + width]
            io.imsave(folder / phase / f"{index}.png", crop, check_contrast=False)


def recipe(folder: Path, total: int, workers: int) -> dict[str, Any]:
    """Return the options of the training."""
    common = {"type": "GaussianNoiseDataset", "io_backend": {"type": "disk"}}
    train = {
        **common,
        "dataroot_gt": str(folder / "train"),
        "sigma": [5, 50],
        "gt_sizes": [16, 24],
        "batch_sizes_per_gpu": [3, 2],
        "iters": [total // 2, total - total // 2],
        **{"use_hflip": True, "use_rot": True, "num_worker_per_gpu": workers},
    }
    network = {
        **{"type": "AST", "img_size": 16, "embed_dim": 4, "depths": [1, 1, 1], "num_heads": [1, 1, 1], "win_size": 4},
        **{"attn": "key_semantic", "topk": [4, 8, 12], "drop_path_rate": 0.3},
    }
    return {
        **{"name": NAME, "model_type": "SemanIRModel", "scale": 1, "num_gpu": 0, "manual_seed": 3},
        "datasets": {
            "train": train,
            "val": {**common, "dataroot_gt": str(folder / "val"), "sigma": 25},
        },
        "network_g": network,
        "train": {
            **{"ema_decay": 0.9, "grad_clip": 1.0, "mixup": 1.2, "accumulation_steps": 2},
            "optim_g": {"type": "AdamW", "lr": 2e-3},
            "scheduler": {"type": "CosineAnnealingRestartLR", "periods": [total], "eta_min": 1e-6},
            **{"total_iter": total, "warmup_iter": 9, "pixel_opt": {"type": "L1Loss"}},
        },
        "val": {
            **{"val_freq": VALIDATE_EVERY, "save_img": True},
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}},
        },
        "logger": {
            **{"print_freq": 1, "save_checkpoint_freq": SAVE_EVERY, "keep_checkpoints": KEEP, "use_tb_logger": True}
        },
    }


def find_damaged(experiment: Path) -> list[str]:
    """Return the checkpoints that are not whole."""
    from semanir_plugin.errors import UserError
    from semanir_plugin.inference.safe_loading import load_checkpoint

    damaged = []
    for path in [*experiment.glob("models/*.pth"), *experiment.glob("training_states/*.state")]:
        try:
            load_checkpoint(path)
        except UserError as error:
            damaged.append(str(error))
    return damaged


def compare(straight: Life, killed: Life) -> Iterator[tuple[str, bool]]:
    """Yield each result of the trainings, and whether both have it equal to the bit."""
    from semanir_plugin.evaluation.training_logs import read_run
    from semanir_plugin.inference.safe_loading import load_checkpoint

    saved, results = ([names(life, patterns) for life in (straight, killed)] for patterns in (CHECKPOINTS, RESULTS))
    yield "names of checkpoints", saved[0] == saved[1]
    for name in sorted(saved[0] & saved[1]):
        contents = [load_checkpoint(life.experiment / name) for life in (straight, killed)]
        yield from compare_values(str(name), *contents)
    yield "names of results", results[0] == results[1]
    for name in sorted(results[0] & results[1]):
        yield str(name), (straight.experiment / name).read_bytes() == (killed.experiment / name).read_bytes()
    series = [read_run(life.folder / "tb_logger" / NAME).series for life in (straight, killed)]
    yield from compare_values("TensorBoard's records", *series)
    truth, again = dict(logged(straight)), list(logged(killed))
    yield "what is logged", truth.keys() == dict(again).keys()
    for place, line in again:  # also of what was done twice
        yield f"log of {place}", truth.get(place) == line


def names(life: Life, patterns: Iterable[str]) -> set[Path]:
    """Return the files that an experiment has."""
    return {path.relative_to(life.experiment) for pattern in patterns for path in life.experiment.glob(pattern)}


def logged(life: Life) -> Iterator[tuple[str, str]]:
    """Yield each iteration in the logs with its learning rate and losses, each validation with its scores."""
    for log in life.logs():
        current = ""
        for iteration, rate, losses, made_up, scores in LOGGED.findall(log):
            current = iteration or made_up or current
            if scores:
                yield f"the validation of iteration {current}", scores
            elif iteration:
                yield f"iteration {current}", f"{rate} {losses}"


def compare_values(place: str, a: Any, b: Any) -> Iterator[tuple[str, bool]]:
    """Yield each leaf of nested values, with its place, and whether the two are equal to the bit."""
    import torch

    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        yield place, a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from compare_values(f"{place}: {key}", a.get(key, MISSING), b.get(key, MISSING))
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from compare_values(f"{place}: {index}", x, y)
    else:
        yield place, type(a) is type(b) and a == b


if __name__ == "__main__":
    sys.exit(main())
