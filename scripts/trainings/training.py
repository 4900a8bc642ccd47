"""One training: from a recipe and a budget, stopped and gone on with, to a file of weights."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainings import files
from trainings.beginning import choose_beginning
from trainings.data import USUAL, Photographs, alone, make_training_set, make_validation_sets
from trainings.files import Options, dump, pack, shorten, unpack

TRIAL = 40  # iterations by which the time of one is judged
SAVING = 20  # seconds that are left for the last checkpoint
CHECKPOINT_SECONDS = 60  # after which there is another one, and parts of it
LOOKING = 2.0  # seconds from one look for a checkpoint to the next


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training is given beside its recipe: the arguments of the command line, whose help describes them."""

    data: Path
    also: Sequence[Path] = ()
    iterations: int | None = None
    start: Path | None = None
    weights: Path | None = None
    parts: Path | None = None
    batch: int | None = None
    patch: int | None = None
    amp: str | None = None
    validations: int = 20
    workers: int = os.cpu_count() or 1


class Training:
    """One training, from a recipe to a file of weights, under the working directory.

    Args:
        name: Of its folders, weights/NAME and experiments/NAME.
        recipe: Options, whose data are replaced by BSD400 and what the plan adds.
        plan: How long, and with what.
        photographs: How BSD400 is prepared.
    """

    def __init__(self, name: str, recipe: Options, plan: Plan, photographs: Photographs = USUAL) -> None:
        self.name, self.recipe, self.plan, self.photographs = name, recipe, plan, photographs
        self.folder = Path("weights", self.name)
        self.run = Path("experiments", self.name)
        self.opt = self.folder / f"{self.name}.yml"
        self.facts = self.folder / "training.json"
        self.parts = plan.parts or self.folder / "parts"
        self.result = self.folder / f"{self.name}.safetensors"
        self.start = time.monotonic()
        self.before: list[dict[str, Any]] = []

    @property
    def cost(self) -> tuple[int, float]:
        """Iterations and minutes of what was trained."""
        facts = json.loads(self.facts.read_text())
        return facts["iterations"], sum(call["seconds"] for call in facts["calls"]) / 60

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

        from semanir_plugin.atomic_io import write_atomic
        from semanir_plugin.evaluation.benchmark.measuring import describe_machine

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

        options = self.options()
        if self.opt.exists():
            return
        iterations = self.plan.iterations or self._fit(options, deadline)
        shorten(options, iterations, self.plan.validations)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(json.dumps({"recipe": self.name, "iterations": iterations, "calls": []}).encode(), self.facts)
        write_atomic(dump(options), self.opt)

    def options(self) -> Options:
        """Make the data; return the recipe with them, and with what the plan says, but for the iterations."""
        options = json.loads(json.dumps(self.recipe))
        with alone():
            folders = [self.plan.data / "train" / "BSD400", *self.plan.also]
            training_set = make_training_set(options, folders, max(1, self.plan.workers), self.photographs)
            validation = make_validation_sets(options, self.plan.data, self.photographs)
        given = {"batch_size_per_gpu": self.plan.batch, "gt_size": self.plan.patch}
        training_set |= {key: value for key, value in given.items() if value is not None}
        training_set |= {"num_worker_per_gpu": self.plan.workers, "pin_memory": True, "prefetch_mode": "cuda"}
        options["train"] |= {"channels_last": True} | ({"amp": self.plan.amp} if self.plan.amp else {})
        options["train"]["optim_g"] |= {"fused": True}
        options["logger"] |= {"use_tb_logger": True, "keep_checkpoints": 2}
        options["logger"].setdefault("save_checkpoint_seconds", CHECKPOINT_SECONDS)
        if self.plan.weights:
            beginning = choose_beginning(self.plan.weights, options, self.folder / "beginning.safetensors")
            options["path"] |= {"pretrain_network_g": str(beginning.resolve()), "param_key_g": "params_ema"}
        result: Options = options | {"name": self.name, "datasets": {"train": training_set, **validation}}
        return result

    def _fit(self, options: dict[str, Any], deadline: float) -> int:
        """Return the number of iterations that the time allows, by the time that a few take."""
        trial = json.loads(json.dumps(options)) | {"name": f"trial_{self.name}", "val": None}
        shorten(trial, TRIAL)
        trial["datasets"] = {"train": trial["datasets"]["train"]}
        path = Path("weights", f"{trial['name']}.yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dump(trial))
        files.basicsr("train", "-opt", str(path))
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


def read_seconds(run: Path) -> float:
    """Return the seconds per iteration, by the last line of a run's log that has them."""
    times = re.findall(r"time \(data\): ([\d.]+)", max(run.glob("train_*.log")).read_text())
    return float(times[-1])
