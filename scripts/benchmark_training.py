"""Time training steps of option files' networks side by side: images per second, on patches of photographs.

A step is forward, L1, backward and Adam, with the recipe's batch and patches unless told otherwise. The networks take
turns, so that a busy machine slows all alike. Weights are random; what photographs show is what attention looks for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv
from configurations import add_configurations, read_configurations

EPILOG = """\
  python3 scripts/benchmark_training.py options/train_{SemanIR,SwinIR}_mini_SRx4.yml --data DIR
  python3 scripts/benchmark_training.py options/train_{SemanIR,SwinIR}_light_SRx4.yml --data DIR --bf16 --compile
  ... --threads 1 2 --isa avx2

DIR has train/BSD400, a folder of images. OUT gets benchmark_training.json.
"""


def main() -> int:
    """Measure, print a table, write JSON; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    import torch

    from semanir_plugin.atomic_io import write_atomic
    from semanir_plugin.errors import UserError

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        setups = {path.stem.removeprefix("train_"): make_setup(path, args, device) for path in args.recipes}
    except UserError as error:
        print(f"benchmark_training: {error}", file=sys.stderr)
        return 2
    print(
        f"{'bf16' if args.bf16 else 'fp32'}{', compiled' if args.compile else ''}: images per second and ms by median;"
    )
    print("least processor time in ms, and against the first; MiB by which a step raises peak memory", flush=True)
    rows = [row for each in read_configurations(args) for row in each.run(measure, setups, args.repeats, device)]
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "benchmark_training.json"
    write_atomic(f"{json.dumps({'command': ' '.join(sys.argv), 'rows': rows}, indent=2)}\n".encode(), path)
    print(f"Written to {path.resolve()}")
    return 0


def measure(setups: dict[str, dict[str, Any]], repeats: int, device: str) -> list[dict[str, Any]]:
    """Time the networks by turns and print them; return a row for each."""
    from measuring import describe_machine, peak_mib, take_turns

    machine = describe_machine(device)
    print(machine)
    rows: list[dict[str, Any]] = []
    times = take_turns([prepare(setup) for setup in setups.values()], repeats, device)
    for (name, setup), each in zip(setups.items(), times, strict=True):
        row = {"name": name, "machine": machine, "batch": setup["batch"], "patch": setup["patch"], **each._asdict()}
        row["images_per_second"] = 1000 * setup["batch"] / each.median
        rows.append({**row, "mib": peak_mib(prepare, (setup,), device)})
        print_row(rows[-1], rows[0])
    return rows


def print_row(row: dict[str, Any], first: dict[str, Any]) -> None:
    """Print the measures of one network."""
    memory = "-" if row["mib"] is None else f"{row['mib']:.0f}"
    numbers = f"{row['images_per_second']:9.2f} {row['median']:9.1f} {row['processor']:9.1f}"
    print(f"{row['name']:28s} {numbers} {row['processor'] / first['processor']:6.2f} {memory:>8s}", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipes", type=Path, nargs="+", metavar="RECIPE", help="option files, options/train_*.yml")
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    parser.add_argument("--batch", type=int, help="images in a step (default: the recipe's)")
    parser.add_argument("--patch", type=int, help="side of the ground truth's patches (default: the recipe's)")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile: stages of ours, others whole")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure (a GPU where there is one)")
    parser.add_argument("--repeats", type=int, default=9, help="turns that count (9)")
    add_configurations(parser)
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_training"), help="where the JSON goes")
    args = parser.parse_args()
    if missing := [path for path in args.recipes if not path.is_file()]:
        parser.error(f"{missing[0]}: no such file; name option files")
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400; see --help")
    if min(each for each in (args.repeats, args.batch, args.patch) if each is not None) < 1:
        parser.error("--repeats, --batch and --patch must be at least 1")
    return args


def make_setup(recipe: Path, args: argparse.Namespace, device: str) -> dict[str, Any]:
    """Return the settings that a process needs to train the recipe's network.

    Raises:
        UserError: Of the data no such patches can be made.
    """
    from trainings.files import read_yaml

    options = read_yaml(recipe)
    dataset, network = options["datasets"]["train"], options["network_g"]
    batch, patch = args.batch or dataset["batch_size_per_gpu"], args.patch or dataset["gt_size"]
    return {
        "network": network,
        "batch": batch,
        "patch": patch,
        "pairs": read_pairs(args.data / "train" / "BSD400", batch, patch, options.get("scale", 1)),
        "bf16": args.bf16,
        "compile": args.compile,
        "device": device,
    }


def prepare(setup: dict[str, Any]) -> Callable[[], None]:
    """Return a training step, ready to run."""
    import torch

    net = build(setup)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    truth, image = (each.to(setup["device"]) for each in setup["pairs"])

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(setup["device"], torch.bfloat16, enabled=setup["bf16"]):
            out = net(image)
        (out.float() - truth).abs().mean().backward()
        optimizer.step()

    return step


def build(setup: dict[str, Any]) -> Any:
    """Return the network in training mode, compiled where that is asked for."""
    import inspect  # noqa: I001

    import semanir_plugin  # noqa: F401  # first: it makes BasicSR importable
    import torch
    from basicsr.archs import build_network
    from basicsr.utils.registry import ARCH_REGISTRY

    torch.manual_seed(0)
    options = dict(setup["network"])
    ours = "compile_backend" in inspect.signature(ARCH_REGISTRY.get(options["type"])).parameters
    if setup["compile"] and ours:
        options["compile_backend"] = "inductor"
    net = build_network(options).to(setup["device"]).train()
    return torch.compile(net) if setup["compile"] and not ours else net


def read_pairs(folder: Path, batch: int, side: int, scale: int) -> tuple[Any, Any]:
    """Return patches of different photographs, (B, 3, side, side) in [0, 1], and the same made smaller by the scale.

    Raises:
        UserError: There are too few photographs, or one of them or the patch is too small.
    """
    import numpy as np
    import torch

    from semanir_plugin.degradations import downsample_bicubic, least_side
    from semanir_plugin.errors import UserError
    from semanir_plugin.inference.images import decode_image
    from semanir_plugin.pixels import to_float

    photos = [decode_image(path.read_bytes(), "color") for path in sorted(folder.iterdir())[:batch]]
    if len(photos) < batch or any(min(photo.shape[:2]) < side for photo in photos):
        raise UserError(f"{folder}: has no {batch} photographs of {side} x {side} pixels; give --batch or --patch")
    if side % scale or side < least_side(scale):
        raise UserError(f"patches of {side} cannot be made smaller by {scale}; give --patch a multiple of it")
    truths = [photo[:side, :side] for photo in photos]
    inputs = truths if scale == 1 else [to_float(downsample_bicubic(truth, scale)) for truth in truths]
    truth, image = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2).contiguous() for each in (truths, inputs))
    return truth, image


if __name__ == "__main__":
    sys.exit(main())
