"""Time whole networks side by side, by turns: ours, others of their size, and AST against its plain description.

Runs on a GPU where there is one, else on the CPU. A ratio is of least processor times, and in brackets of median times
by the clock. Every measure is a line of JSON as soon as it is known; a table follows. Restormer, which SemanIRUNet is
compared with, is in a package of its own, some of whose architectures are not free: pip install spandrel_extra_arches
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv
from compared_networks import COMPARISONS, SETS, Comparison, Contestant, make_image

EPILOG = """\
  python3 scripts/benchmark_archs.py --set semanir --threads 1 2 --isa native avx2
  python3 scripts/benchmark_archs.py --only mini light

OUT gets benchmark_archs.jsonl and benchmark_archs.md.
"""
TOLERANCE = 1e-5


def main() -> int:
    """Measure, print lines and a table, write both; return the exit code."""
    run_in_venv()
    args = parse_arguments()
    import torch

    from semanir_plugin.errors import UserError
    from semanir_plugin.evaluation.benchmark.configurations import read_configurations
    from semanir_plugin.path_safety import check_folder

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    lines = args.out / "benchmark_archs.jsonl"
    try:
        check_folder(args.out)
        lines.write_text("")
        names = chosen(args)
        # Configurations with threads are processes of their own, one for each comparison: what an earlier one left of
        # its memory would change what new memory costs.
        for each, name in itertools.product(read_configurations(args), names):
            each.run(measure_and_write, name, args.turns, device, args.data, lines, args.keep_memory)
    except UserError as error:
        print(f"benchmark_archs: {error}", file=sys.stderr)
        return 2
    table = "\n".join(make_table([json.loads(line) for line in lines.read_text().splitlines()]))
    (args.out / "benchmark_archs.md").write_text(f"{table}\n")
    print(f"\n{table}\n\nWritten to {args.out.resolve()}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from semanir_plugin.evaluation.benchmark.configurations import add_configurations

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--set", nargs="+", choices=SETS, default=list(SETS), help="what to compare (all)")
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, help="single comparisons, instead of sets")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure (a GPU where there is one)")
    parser.add_argument("--turns", type=int, default=6, help="that count, after two that warm up (6)")
    parser.add_argument("--data", type=Path, help="a folder of photographs (one of scikit-image's)")
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="what was freed is used again, as basicsr restore has it, not renewed",
    )
    add_configurations(parser)
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_archs"), help="results/benchmark_archs")
    args = parser.parse_args()
    if min(args.turns, *(args.threads or [1])) < 1:
        parser.error("--turns and --threads must be at least 1")
    return args


def chosen(args: argparse.Namespace) -> list[str]:
    """Return the names of the networks to compare; print those that cannot be."""
    names = args.only or [name for each in args.set for name in SETS[each]]
    missing = {name: missing_package(COMPARISONS[name]) for name in names}
    for name, package in missing.items():
        if package:
            print(f"{name}: not compared, {package} is not installed: pip install {package}", file=sys.stderr)
    return [name for name in names if not missing[name]]


def missing_package(comparison: Comparison) -> str | None:
    """Return a package that a contestant needs and that is not installed."""
    needed = [package for each in comparison.contestants.values() for package in each.needs]
    return next((package for package in needed if find_spec(package) is None), None)


def measure_and_write(name: str, turns: int, device: str, data: Path | None, path: Path, keep_memory: bool) -> None:
    """Measure a comparison; append a line to a file for every network."""
    from semanir_plugin.evaluation.benchmark.measuring import describe_machine
    from semanir_plugin.inference.tile_memory import keep_freed_memory

    if keep_memory:
        keep_freed_memory()
    machine = describe_machine(device)
    for row in measure(name, turns, device, data):
        line = json.dumps({**row, "machine": machine})
        with path.open("a") as file:
            file.write(f"{line}\n")
        print(line, flush=True)


def measure(name: str, turns: int, device: str, data: Path | None) -> Iterator[dict[str, Any]]:
    """Yield what each network of a comparison costs: times in ms, MiB at the peak, and ratios to the references."""
    import torch

    from semanir_plugin.evaluation.benchmark.measuring import peak_mib, take_turns

    comparison = COMPARISONS[name]
    if comparison.same:
        check_equal(comparison, device, data)
    steps = [prepare(name, each, device, data) for each in comparison.contestants]
    times = dict(zip(comparison.contestants, take_turns(steps, turns, device), strict=True))
    for contestant, own in times.items():
        others = {each: times[each] for each in comparison.references_of(contestant)}
        yield {
            "comparison": name,
            "network": contestant,
            "image": "x".join(map(str, comparison.size)),
            "task": "training" if comparison.training else "inference",
            "threads": torch.get_num_threads(),
            "isa": torch.backends.cpu.get_cpu_capability(),
            **own._asdict(),
            "mib": peak_mib(prepare, (name, contestant, device, data), device),
            "ratios": {each: [own.processor / t.processor, own.median / t.median] for each, t in others.items()},
        }


def prepare(name: str, contestant: str, device: str, data: Path | None) -> Callable[[], Any]:
    """Return the call to measure: a training step or a restoration, with its network and image."""
    comparison = COMPARISONS[name]
    each = comparison.contestants[contestant]
    net, image = each.build().to(device), make_image(*comparison.size, data).to(device)
    return partial(train if comparison.training else restore, net, image, each)


def restore(net: Any, image: Any, contestant: Contestant) -> Any:
    """Restore an image without gradients, after padding it to what the network takes."""
    import torch
    import torch.nn.functional as F

    height, width = image.shape[-2:]
    if contestant.square:
        side = -(-max(height, width) // contestant.square) * contestant.square
        image = F.pad(image, (0, side - width, 0, side - height))
    with torch.no_grad():
        out = net.eval()(image, **contestant.options)
    return out[..., :height, :width] if contestant.square else out


def train(net: Any, image: Any, contestant: Contestant) -> None:
    """Do one training step without the optimiser's part, of a network that keeps the image's size."""
    net.train().zero_grad()
    (net(image, **contestant.options) - image).abs().mean().backward()


def check_equal(comparison: Comparison, device: str, data: Path | None) -> None:
    """Refuse to time networks whose results differ: the residuals that they add to the image must agree."""
    image = make_image(*comparison.size, data).to(device)
    first, *others = (restore(each.build().to(device), image, each) - image for each in comparison.contestants.values())
    errors = [((other - first).norm() / first.norm()).item() for other in others]
    if not max(errors) < TOLERANCE:
        names = list(comparison.contestants)
        sys.exit(f"{names[0]} differs from {names[1]} by {max(errors):.1e}; nothing is measured")


def make_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, and of what machines it is."""
    yield "| network | input | threads | instructions | processor ms | median ms | MiB | against |"
    yield "|---|---|---:|---|---:|---:|---:|---|"
    for row in rows:
        task = f"{row['image']}, training" if row["task"] == "training" else row["image"]
        against = "; ".join(f"{least:.2f} ({median:.2f}) {name}" for name, (least, median) in row["ratios"].items())
        memory = "" if row["mib"] is None else f"{row['mib']:.0f}"
        times = f"{row['processor']:.0f} | {row['median']:.0f}"
        yield f"| {row['network']} | {task} | {row['threads']} | {row['isa']} | {times} | {memory} | {against} |"
    yield ""
    yield from dict.fromkeys(row["machine"] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
