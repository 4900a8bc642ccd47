"""Times AST against a plain implementation of its description, with the same weights: both are compared before.

Runs on a GPU where there is one, else on the CPU; ratios are of the plain one to ours. The plain one, of tests/archs,
pads every image to a square multiple of 128, as the authors do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bootstrap import ROOT, run_in_venv

SIZES = {"B": {}, "T": {"embed_dim": 16, "depths": [2] * 9}}
# Height, width, and whether training is measured too.
IMAGES = ((256, 256, True), (480, 720, False))
KINDS = ("plain", "ours")
TOLERANCE = 1e-5


def main() -> int:
    """Measure, print a table, write JSON; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--size", choices=SIZES, default="B", help="default: B")
    parser.add_argument("--mlp", choices=("frfn", "leff"), default="frfn", help="default: frfn")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure; default: a GPU if there is one")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts; default: 3")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_archs"), help="where the JSON goes")
    args = parser.parse_args()
    run_in_venv()
    import torch
    from measuring import describe_machine

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    report: dict[str, Any] = {"machine": describe_machine(device), "command": " ".join(sys.argv), "rows": []}
    print(f"{report['machine']}\n\nAST-{args.size}, {args.mlp}, batch of 1, fp32: plain, ours, plain / ours")
    for height, width, training in IMAGES:
        row = measure(args.size, args.mlp, height, width, device, args.repeats, training=training)
        report["rows"].append(row)
        print_row(row)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"benchmark_archs_{args.size}_{args.mlp}_{device}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"Written to {path.resolve()}")
    return 0


def build(kind: str, size: str, token_mlp: str, device: str) -> Any:
    """Return the plain network or ours, with the same weights."""
    import torch

    from semanir_plugin.archs import AST

    sys.path[:0] = [str(ROOT)]
    from tests.archs.ast_reference import ReferenceAST

    torch.manual_seed(0)
    options: dict[str, Any] = {**SIZES[size], "token_mlp": token_mlp}
    plain = ReferenceAST(**options)
    if kind == "plain":
        return plain.to(device)
    net = AST(**options)
    net.load_state_dict(plain.state_dict())
    return net.to(device)


def make_image(height: int, width: int, device: str) -> Any:
    """Return (1, 3, height, width) of noise: what it shows costs nothing."""
    import torch

    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1)).to(device)


def infer(net: Any, image: Any, kind: str) -> Any:
    """Restore an image without gradients, after padding it to what the network takes."""
    import torch
    import torch.nn.functional as F

    height, width = image.shape[-2:]
    if kind == "plain":
        side = -(-max(height, width) // 128) * 128
        image = F.pad(image, (0, side - width, 0, side - height))
    with torch.no_grad():
        return net.eval()(image)[..., :height, :width]


def train(net: Any, image: Any) -> None:
    """Do one training step without the optimiser's part."""
    net.train().zero_grad()
    (net(image) - image).abs().mean().backward()


def prepare(task: str, kind: str, size: str, token_mlp: str, height: int, width: int, device: str) -> Callable[[], Any]:
    """Return what is measured, ready to run."""
    net, image = build(kind, size, token_mlp, device), make_image(height, width, device)
    return partial(infer, net, image, kind) if task == "inference" else partial(train, net, image)


def compare(size: str, token_mlp: str, height: int, width: int, device: str) -> None:
    """Refuse to time what computes something else; on squares that need no padding both must agree."""
    image = make_image(height, width, device)
    plain, ours = (infer(build(kind, size, token_mlp, device), image, kind) - image for kind in KINDS)
    if not (error := ((plain - ours).norm() / plain.norm()).item()) < TOLERANCE:
        sys.exit(f"ours differs from plain by {error:.1e}; nothing is measured")


def measure(
    size: str, token_mlp: str, height: int, width: int, device: str, repeats: int, *, training: bool
) -> dict[str, Any]:
    """Return times in ms and peaks of memory in MiB of both networks on one image size."""
    from measuring import median_ms, peak_mib

    if height == width and height % 128 == 0:
        compare(size, token_mlp, height, width, device)
    row: dict[str, Any] = {"height": height, "width": width}
    for task in ("inference", "training")[: 1 + training]:
        for kind in KINDS:
            arguments = (task, kind, size, token_mlp, height, width, device)
            row[f"{task}_{kind}_ms"] = median_ms(prepare(*arguments), repeats, device)
            row[f"{task}_{kind}_mib"] = peak_mib(prepare, arguments, device)
    return row


def print_row(row: dict[str, Any]) -> None:
    """Print the measures of one image size, a line each."""
    for task in ("inference", "training"):
        for unit in ("ms", "mib"):
            plain, ours = (row.get(f"{task}_{kind}_{unit}") for kind in KINDS)
            if plain and ours:
                image = f"{row['height']}x{row['width']}"
                print(f"{image:>9s} {task:>9s} {unit:>3s} {plain:9.0f} {ours:9.0f} {plain / ours:6.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
