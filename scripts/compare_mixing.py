"""Train each recipe of docs/mixing.md, reduced, beside its host: the same data, iterations and seeds for both.

Makes its option files of options/*.yml and of a folder of data as the tests take it, with train/BSD400 and test/{Set5,
Set14}. Everything goes under the working directory: reduced/, experiments/, results/. A run that is complete is not
repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from bootstrap import run_in_venv
from reduced_trainings import basicsr, read, write


@dataclass(frozen=True)
class Comparison:
    """A recipe, the changes that make its network small, and the host to compare it with."""

    recipe: str
    small: dict[str, Any]
    host: str
    mixed: str
    without: dict[str, Any] | None = None  # None: the base of a mixed architecture


SWINIR = {"img_size": 24, "embed_dim": 24, "depths": [2, 2], "num_heads": [3, 3]}
SEMANIR = {"embed_dim": 24, "depths": [2, 2], "num_heads": [3, 3], "window_size": 16}
COMPARISONS = {
    "SwinIR": Comparison("SwinIR_light_KeySemantic_SRx4", SWINIR, "SwinIR", "SwinIR + key semantics"),
    "EDSR": Comparison("EDSR_FRFN_SRx4", {"num_feat": 32, "num_block": 4}, "EDSR", "EDSR + FRFN"),
    "SemanIR": Comparison(
        "SemanIR_light_ASSA_SRx4",
        SEMANIR,
        "SemanIR, key semantics",
        "SemanIR, ASSA",
        {"attn": "key_semantic", "topk": 128},
    ),
}
TEST_SETS = ("Set5", "Set14")
PATCH, BATCH, LEARNING_RATE = 96, 8, 1e-3
SIZE = (64, 64)  # of the input that operations are counted at


def main() -> int:
    """Run the comparisons; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    try:
        rows = [row for name in args.comparisons for row in compare(COMPARISONS[name], args)]
    except subprocess.CalledProcessError as error:  # it has said why
        return error.returncode
    except KeyboardInterrupt:
        return 130
    seeds = " and ".join(map(str, args.seeds))
    sets = " | ".join(f"{name}, seeds {seeds}" for name in TEST_SETS)
    print(f"\n| network | parameters | GFLOPs | {sets} | mean |")
    print("| --- | ---: | ---: | " + "---: | " * len(TEST_SETS) + "---: |")
    for row in rows:
        print(row)
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = ", ".join(COMPARISONS)
    parser.add_argument("comparisons", nargs="*", metavar="NAME", default=list(COMPARISONS), help=f"of {names} (all)")
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    parser.add_argument("--iterations", type=int, default=400, help="of each training (default: 400)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="one training each (default: 0 1)")
    args = parser.parse_args()
    if unknown := [name for name in args.comparisons if name not in COMPARISONS]:
        parser.error(f"unknown comparison {unknown[0]!r}: it is one of {names}")
    if args.data is None or not (args.data / "train" / "BSD400").is_dir():
        parser.error("--data must name a folder with train/BSD400 and test/...; see the top of this script")
    return args


def compare(comparison: Comparison, args: argparse.Namespace) -> Iterator[str]:
    """Train and score host and mixed network; yield a row of the table for each."""
    for label, network in zip((comparison.host, comparison.mixed), make_networks(comparison), strict=True):
        scores = [train_and_score(comparison.recipe, network, seed, args) for seed in args.seeds]
        cells = [" / ".join(f"{each[name]:.2f}" for each in scores) for name in TEST_SETS]
        overall = mean(each[name] for each in scores for name in TEST_SETS)
        parameters, operations = count_cost(network)
        yield f"| {label} | {parameters:,} | {operations / 1e9:.2f} | {' | '.join(cells)} | {overall:.2f} |"


def make_networks(comparison: Comparison) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the `network_g` of host and mixed network, both small."""
    mixed = read(f"train_{comparison.recipe}.yml")["network_g"]
    if comparison.without is None:
        host = mixed["base"] | comparison.small
        return host, mixed | {"base": host}
    mixed = mixed | comparison.small
    return mixed | comparison.without, mixed


def train_and_score(recipe: str, network: dict[str, Any], seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Return the PSNR on each test set."""
    kind = network["type"] if network["type"] == "MixedArch" else f"{network['type']}_{network.get('attn', 'host')}"
    name = f"mixing_{recipe}_{kind}_{args.iterations}_{seed}"
    train, test = make_options(recipe, name, network, seed, args)
    if not Path("results", f"{name}_test", "metrics.json").exists():
        basicsr("train", train)
        basicsr("test", test)
    scores = json.loads(Path("results", f"{name}_test", "metrics.json").read_text())
    return {test_set: scores[test_set]["psnr"] for test_set in TEST_SETS}


def make_options(
    recipe: str, name: str, network: dict[str, Any], seed: int, args: argparse.Namespace
) -> tuple[Path, Path]:
    """Write the option files to train and to score one network."""
    train, test = (read(f"{phase}_{recipe}.yml") for phase in ("train", "test"))
    images = {"dataroot_gt": str((args.data / "train" / "BSD400").resolve()), "lq_cache": str(Path("reduced", "LR"))}
    small = {"gt_size": PATCH, "batch_size_per_gpu": BATCH, "num_worker_per_gpu": 1, "prefetch_mode": None}
    train |= {"name": name, "num_gpu": 0, "manual_seed": seed, "network_g": network}
    train["datasets"] = {"train": train["datasets"]["train"] | images | small}
    train["train"] |= {"amp": None, "total_iter": args.iterations, "ema_decay": 0.99, "warmup_iter": -1}
    train["train"]["optim_g"]["lr"] = LEARNING_RATE
    train["train"]["scheduler"] = {"type": "CosineAnnealingLR", "T_max": args.iterations, "eta_min": 1e-6}
    del train["val"]
    train["logger"] |= {"use_tb_logger": False, "save_checkpoint_freq": args.iterations}
    test |= {"name": f"{name}_test", "num_gpu": 0, "network_g": network}
    test["path"] |= {"pretrain_network_g": f"experiments/{name}/models/net_g_latest.pth"}
    sets = [each for each in test["datasets"].values() if each["name"] in TEST_SETS]
    test["datasets"] = {
        f"test_{index}": each | {"dataroot_gt": str((args.data / "test" / each["name"]).resolve())}
        for index, each in enumerate(sets)
    }
    test["val"] |= {"save_img": False}
    return write(train), write(test)


def count_cost(network: dict[str, Any]) -> tuple[int, float]:
    """Return the parameters and the operations of a network."""
    import semanir_plugin.archs  # noqa: F401, I001  # the host comes first
    from basicsr.archs import build_network
    from semanir_plugin.evaluation.cost import count_flops, count_parameters

    net = build_network(network)
    return count_parameters(net), count_flops(net, SIZE)


if __name__ == "__main__":
    sys.exit(main())
