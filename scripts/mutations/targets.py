"""Kinds of files that are changed at random, each with the commands that read it."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from bootstrap import ROOT

from mutations.bytestrings import change_bytes
from mutations.commands import Outcome, run_command
from mutations.containers import change_safetensors, change_zip
from mutations.image_formats import change_image
from mutations.option_changes import change_text, change_whole
from mutations.samples import (
    as_test,
    check_unchanged,
    checkpoint_trees,
    draw_stored,
    encoded_images,
    noise,
    saved,
    tiny_denoising,
    tiny_leaderboard,
    tiny_training,
    write_model,
    write_options,
    write_pairs,
)
from mutations.trees import change_tree

__all__ = ["TARGETS", "Target"]

OPTIONS = sorted((ROOT / "options").glob("*_*.yml"))


class Target(ABC):
    """A kind of files.

    Attributes:
        count: Of cases in a full test.
    """

    count: int

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Write what the cases share to the target's folder, or keep it, once."""

    @abstractmethod
    def write(self, random: Random) -> Iterator[Sequence[str]]:
        """Write changed files to the working directory; yield the arguments of commands that read them."""

    def find_wrong(self, outcome: Outcome) -> str | None:
        """Return what is wrong with what a command left behind; None where nothing is."""
        return None

    def attempt(self, random: Random) -> tuple[str | None, bool]:
        """Run the commands of a case; return what is wrong, and whether one refused."""
        refused = False
        for command in self.write(random):
            outcome = run_command(command)
            refused |= outcome.code != 0
            wrong = outcome.problem or self.find_wrong(outcome)
            if wrong:
                Path("said.txt").write_text(outcome.text, errors="surrogatepass")
                return f"{wrong} (basicsr {' '.join(command)})", refused
        return None, refused


class OptionFiles(Target):
    """Shipped option files, by their values or by their text; a few of tiny networks and images are run to the end."""

    count = 10_000

    def prepare(self) -> None:
        import yaml

        from semanir_plugin.option_files import load_options

        write_pairs(self.folder)
        run = tiny_training(self.folder)
        self.whole = [("train", run), ("test", as_test(run)), ("leaderboard", tiny_leaderboard(self.folder / "GT"))]
        for command, options in self.whole:
            write_options(options, self.folder / "x.yml")
            check_unchanged(self.folder, (command, "-opt", "x.yml"))
        self.trees = [
            (path.name.partition("_")[0], tree)
            for path in OPTIONS
            for tree in (load_options(path).data, yaml.safe_load(path.read_text()))
        ]

    def write(self, random: Random) -> Iterator[Sequence[str]]:
        import yaml

        kind = random.choices(("tree", "text", "whole"), (80, 10, 10))[0]
        if kind == "text":
            path = random.choice(OPTIONS)
            command, content = path.name.partition("_")[0], change_text(random, path.read_bytes())
        else:
            command, tree = copy.deepcopy(random.choice(self.trees if kind == "tree" else self.whole))
            for _ in range(random.choice((1, 1, 2, 3))):
                change_tree(random, tree) if kind == "tree" else change_whole(random, tree)
            content = yaml.dump(tree, sort_keys=False).encode()
        Path("x.yml").write_bytes(content)
        yield command, "-opt", "x.yml"


class Images(Target):
    """Images of all formats that are read, by the parts that their format has, or by bytes."""

    count = 2_000

    def prepare(self) -> None:
        self.images = list(encoded_images())
        self.model = str(write_model(self.folder / "model.safetensors"))
        (self.folder / "in").mkdir()
        (self.folder / "in" / "image.png").write_bytes(self.images[0][1])
        self.write_options(self.folder)
        check_unchanged(self.folder, *self.commands("image.png"))

    @staticmethod
    def write_options(folder: Path) -> None:
        write_options(tiny_leaderboard("in"), folder / "board.yml")
        write_options(tiny_denoising("in"), folder / "train.yml")

    def commands(self, name: str) -> list[tuple[str, ...]]:
        return [
            ("restore", "in", "-o", "out", "--model", self.model),
            ("explain", f"in/{name}", "--at", "0,0", "-o", "out.png", "--model", self.model),
            ("lmdb", "-i", "in", "-o", "db.lmdb", "--workers", "1"),
            ("leaderboard", "-opt", "board.yml"),
            ("train", "-opt", "train.yml"),
        ]

    def write(self, random: Random) -> Iterator[Sequence[str]]:
        suffix, content = random.choice(self.images)
        suffix = suffix if random.random() < 0.8 else random.choice(self.images)[0]
        Path("in").mkdir()
        Path("in", f"image{suffix}").write_bytes(change_image(random, content))
        self.write_options(Path())
        restore, *others = self.commands(f"image{suffix}")
        yield from (restore, random.choice(others))

    def find_wrong(self, outcome: Outcome) -> str | None:
        left = (
            [path.name for path in Path("out").rglob("*") if path.name.startswith(".")] if Path("out").exists() else []
        )
        return f"half-written files: {left}" if left else None


class Checkpoints(Target):
    """Checkpoints, ours and others', by their values, by the instructions of their pickle, by parts, or by bytes."""

    count = 2_000
    COMMANDS = ("restore", "restore", "explain", "test")

    def prepare(self) -> None:
        import cv2

        self.image = str(self.folder / "image.png")
        cv2.imwrite(self.image, noise(16, 24))
        write_pairs(self.folder)
        self.test = as_test(tiny_training(self.folder))
        self.trees = list(checkpoint_trees())
        self.zips = [(saved(tree), saved(tree, zipped=False)) for tree in self.trees]
        self.safetensors = write_model(self.folder / "x.safetensors").read_bytes()
        check_unchanged(self.folder, *(self.command(kind, "x.safetensors", self.folder) for kind in self.COMMANDS))
        for index, contents in enumerate(self.zips):
            for content in contents:
                (self.folder / f"{index}.pth").write_bytes(content)
                check_unchanged(self.folder, self.command("restore", f"{index}.pth", self.folder))

    def command(self, kind: str, path: str, folder: Path = Path()) -> tuple[str, ...]:
        """Return the command that reads a checkpoint, after writing the option file that it takes, too."""
        self.test["path"]["pretrain_network_g"] = path
        write_options(self.test, folder / "test.yml")
        return {
            "restore": ("restore", self.image, "-o", "out.png", "--overwrite", "--model", path),
            "explain": ("explain", self.image, "--at", "3,4", "-o", "explained.png", "--model", path),
            "test": ("test", "-opt", "test.yml"),
        }[kind]

    def write(self, random: Random) -> Iterator[Sequence[str]]:
        path, content = self.draw_file(random)
        path.write_bytes(content)
        yield self.command(random.choice(self.COMMANDS), str(path))

    def draw_file(self, random: Random) -> tuple[Path, bytes]:
        """Return a changed checkpoint and where it goes."""
        if random.random() < 0.25:
            changed = (change_safetensors if random.random() < 0.8 else change_bytes)(random, self.safetensors)
            return Path("x.safetensors"), changed
        index = random.randrange(len(self.trees))
        zipped, legacy = self.zips[index]
        match random.choice(("tree", "tree", "zip", "zip", "bytes", "legacy")):
            case "tree":
                tree = copy.deepcopy(self.trees[index])
                for _ in range(random.randint(1, 2)):
                    change_tree(random, tree, draw_stored)
                return Path("x.pth"), saved(tree, zipped=random.random() < 0.8)
            case "zip":
                return Path("x.pth"), change_zip(random, zipped)
            case "bytes":
                return Path("x.pth"), change_bytes(random, zipped)
            case _:
                return Path("x.pth"), change_bytes(random, legacy)


class TrainingStates(Target):
    """Checkpoints of a training that goes on: its state, or the network beside it, by values or by bytes."""

    count = 1_000

    def prepare(self) -> None:
        write_pairs(self.folder)
        self.options = tiny_training(self.folder)
        self.options["train"]["total_iter"] = 2
        write_options(self.options, self.folder / "x.yml")
        check_unchanged(self.folder, ("train", "-opt", "x.yml"))
        experiment = self.folder / "experiments" / "run"
        (experiment / "training_states" / "2.state").unlink()
        (experiment / "models" / "net_g_latest.pth").unlink()
        self.states = {
            path.relative_to(self.folder): path.read_bytes()
            for path in (experiment / "training_states" / "1.state", experiment / "models" / "net_g_1.pth")
        }

    def write(self, random: Random) -> Iterator[Sequence[str]]:
        import torch

        shutil.copytree(self.folder / "experiments", "experiments")
        path = random.choices(list(self.states), (3, 1))[0]
        if random.random() < 0.7:
            tree = torch.load(io.BytesIO(self.states[path]), weights_only=True)
            for _ in range(random.randint(1, 2)):
                change_tree(random, tree, draw_stored)
            content = saved(tree)
        else:
            content = random.choice((change_zip, change_bytes))(random, self.states[path])
        path.write_bytes(content)
        write_options(self.options)
        yield "train", "-opt", "x.yml", "--auto_resume"


class Records(Target):
    """Cached records of a leaderboard; the scores are those of before, whatever does not fit its checksum."""

    count = 2_000

    def prepare(self) -> None:
        import cv2

        for index in range(2):
            (self.folder / "S").mkdir(exist_ok=True)
            cv2.imwrite(str(self.folder / "S" / f"{index}.png"), noise(20, 24))
        self.options = tiny_leaderboard(self.folder / "S") | {"save_images": True}
        write_options(self.options, self.folder / "x.yml")
        check_unchanged(self.folder, ("leaderboard", "-opt", "x.yml"))
        self.results = self.folder / "results"
        self.scores = self.read_scores(self.results)
        records = sorted(self.results.rglob("cache/*/*.json"))
        self.paths = [
            path.relative_to(self.folder) for path in (*records, *sorted(self.results.rglob("images/**/*.png")))
        ]

    @staticmethod
    def read_scores(results: Path) -> Any:
        """Return the cells of a leaderboard's results."""
        return [row["cells"] for row in json.loads((results / "board" / "results.json").read_text())["rows"]]

    def write(self, random: Random) -> Iterator[Sequence[str]]:
        shutil.copytree(self.results, "results")
        path = random.choice(self.paths)
        content, self.forged = path.read_bytes(), False
        if path.suffix == ".json" and random.random() < 0.8:
            record = json.loads(content)
            change_tree(random, record)
            self.forged = random.random() < 0.7
            if self.forged:
                record.pop("sha256", None)
                record["sha256"] = record_checksum(path, record)
            path.write_text(json.dumps(record, default=str))
        else:
            path.write_bytes(change_bytes(random, content))
        write_options(self.options)
        yield "leaderboard", "-opt", "x.yml"

    def find_wrong(self, outcome: Outcome) -> str | None:
        if outcome.code == 0 and not self.forged and self.read_scores(Path("results")) != self.scores:
            return "other scores"
        return None


def record_checksum(path: Path, record: Any) -> str:
    """Return the checksum that a leaderboard's record has, as whoever forges one would."""
    text = json.dumps([path.parent.name, path.stem, record], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


TARGETS: dict[str, type[Target]] = {
    "option files": OptionFiles,
    "images": Images,
    "checkpoints": Checkpoints,
    "training states": TrainingStates,
    "cache records": Records,
}
