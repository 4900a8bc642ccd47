"""Option files of trainings, the `basicsr` command that takes them, and archives that carry a training elsewhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from bootstrap import ROOT

PART = 15_000_000  # bytes
PART_NAME = re.compile(r"part_(?P<set>\d+)_(?P<index>\d+)_of_(?P<count>\d+)")

Options = dict[str, Any]
REMOVED = object()  # in the place of an option that goes


def read_yaml(path: Path) -> Options:
    """Return the options of a file, on top of its base."""
    from semanir_plugin.option_files import read_option_file

    return read_option_file(path).data


def read_recipe(name: str) -> Options:
    """Return the options of a shipped recipe as `basicsr train` reads them."""
    from semanir_plugin.basicsr_host.engine.run import read_run_options

    return read_run_options(ROOT / "options" / f"train_{name}.yml", is_train=True).data


def dump(options: Options) -> bytes:
    """Return options as an option file."""
    import yaml

    return yaml.safe_dump(options, sort_keys=False).encode()


def basicsr(*arguments: str) -> None:
    """Run the `basicsr` command, shown as a user would type it."""
    print("\n$ basicsr", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "semanir_plugin.cli", *arguments], check=True)


def change(options: Options, changes: Options) -> Options:
    """Return options with some of them replaced, or `REMOVED`, section by section."""
    result = dict(options)
    for key, value in changes.items():
        if value is REMOVED:
            result.pop(key, None)
        else:
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = change(result[key], value) if both else value
    return result


def shorten(options: Options, iterations: int, validations: int = 1) -> None:
    """Set a recipe's number of iterations, and scale its schedule alike."""
    train, dataset = options["train"], options["datasets"]["train"]
    factor = iterations / train["total_iter"]

    def scaled(count: float) -> int:
        result: int = max(1, round(count * factor))
        return result

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


def list_whole_sets(folder: Path) -> list[list[Path]]:
    """Return the sets of parts, rising, of which no part is missing."""
    return [parts for parts in list_parts(folder).values() if parts[-1].name.endswith(f"_{len(parts)}_of_{len(parts)}")]


def unpack(folder: Path) -> None:
    """Unpack the files of `pack` under the working directory; of several sets, the last that is whole."""
    from semanir_plugin.errors import UserError

    sets = list_whole_sets(folder)
    if not sets:
        raise UserError(f"{folder}: no whole set of parts of a training; bring them here anew")
    content = b"".join(path.read_bytes() for path in sets[-1])
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(filter="data")
    except tarfile.TarError as error:
        raise UserError(f"{folder}: not the parts of a training ({error}); bring them here anew") from error
