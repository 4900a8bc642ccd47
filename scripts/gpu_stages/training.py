"""Stage 4: SemanIR-light x4, trained for the time that is left, resumed where an earlier run stopped."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bootstrap import ROOT

from gpu_stages.cases import Case
from gpu_stages.journal import Row
from gpu_stages.sizes import Sizes
from semanir_plugin.errors import UserError

__all__ = ["cases"]

RECIPE = ROOT / "options" / "train_SemanIR_light_short_SRx4.yml"
RESERVE = 20.0  # seconds for what comes before and after train_weights.py
LEAST = 60.0
VALIDATIONS = "6"  # each takes seconds, of minutes
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png")
SMALL = {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 8, "topk": 12}
NUMBERS = {
    "iteration": re.compile(r"iter: *([\d,]+)"),
    "seconds_per_iteration": re.compile(r"time \(data\): ([\d.]+)"),
    "loss": re.compile(r"l_pix: ([\d.e+-]+)"),
    "psnr": re.compile(r"# psnr: ([\d.]+)"),
}


def cases(sizes: Sizes, args: argparse.Namespace) -> Iterator[Case]:
    """Yield the one case."""
    yield Case(RECIPE.stem, partial(_train, sizes, args), seconds=args.seconds)


def _train(sizes: Sizes, args: argparse.Namespace) -> Iterator[Row]:
    if args.seconds < LEAST:
        raise UserError(f"{args.seconds:.0f} s are left, too few to train; give --minutes more")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        words = _dry_run_arguments(work) if sizes.small else _words(args)
        parts = ["--parts", str(args.output.resolve() / "parts")]
        minutes = ["--minutes", f"{(args.seconds - RESERVE) / 60:.2f}"]
        command = [sys.executable, str(ROOT / "scripts" / "train_weights.py"), *words, *parts, *minutes]
        with subprocess.Popen(command, cwd=work, stdout=sys.stderr) as process:
            yield from _follow(process, work)
        if process.returncode:
            raise UserError(f"train_weights.py ended with exit code {process.returncode}; see log.txt")
        for weights in work.glob("weights/*/*.safetensors"):
            shutil.copy(weights, args.output)
            yield {"weights": weights.name}


def _words(args: argparse.Namespace) -> list[str]:
    if args.data is None:
        raise UserError("there is nothing to train on: give --data, a folder with train/BSD400 and test/Set5")
    words = [str(RECIPE), "--data", str(args.data.resolve()), "--validations", VALIDATIONS]
    if args.start is None:
        return words
    weights = sorted(args.start.resolve().glob("*.safetensors"))
    return [*words, *(["--weights", str(weights[0])] if weights else ["--start", str(args.start.resolve())])]


def _dry_run_arguments(work: Path) -> list[str]:
    """Make a small recipe and a few crops of scikit-image's photographs to train on."""
    import skimage
    import yaml
    from PIL import Image
    from trainings.files import read_yaml

    for folder in ("data/train/BSD400", "data/test/Set5"):
        (work / folder).mkdir(parents=True)
        for name in PHOTOS:
            photo = Image.open(Path(skimage.__file__).parent / "data" / name)
            photo.crop((100, 100, 228, 196)).save(work / folder / name)
    options = read_yaml(RECIPE)
    options["network_g"] |= SMALL
    recipe = work / RECIPE.name
    recipe.write_text(yaml.safe_dump(options | {"num_gpu": 0}))
    words = [str(recipe), "--data", str(work / "data"), "--iterations", "2"]
    return [*words, "--batch", "2", "--patch", "32", "--workers", "0"]


def _follow(process: subprocess.Popen[bytes], work: Path) -> Iterator[Row]:
    """Yield the numbers of the training's log as they come."""
    read: dict[Path, int] = {}
    while True:
        ended = process.poll() is not None
        for log in work.glob("experiments/*/train_*.log"):
            lines = log.read_text().splitlines()
            yield from filter(None, map(_numbers, lines[read.get(log, 0) :]))
            read[log] = len(lines)
        if ended:
            return
        time.sleep(1)


def _numbers(line: str) -> Row:
    found = {name: pattern.search(line) for name, pattern in NUMBERS.items()}
    return {name: float(match[1].replace(",", "")) for name, match in found.items() if match}
