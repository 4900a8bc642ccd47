"""Tell how many keys of a dictionary each number format changes, against similarities in fp64.

Features are those of a trained network on a photograph. Products and sums are computed on a CPU as the formats have
them; those of tensor cores are cut to 24 bits after each 16 channels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bootstrap import run_in_venv

if TYPE_CHECKING:
    from torch import Tensor

SIDE, TOKENS = 32, 32**2
FEWEST_CHANNELS = 48  # those of the network
CHANNELS_AT_ONCE = 16
BITS_OF_SUMS = 24


def main() -> int:
    """Print a table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--windows", type=int, default=8, help="of 32 x 32 tokens (8)")
    parser.add_argument("--channels", type=int, default=180, help="48 or more (180)")
    parser.add_argument("--keys", type=int, nargs="+", default=[64, 512], help="of 1,024 (64 512)")
    args = parser.parse_args()
    if args.windows < 1 or args.channels < FEWEST_CHANNELS or not all(1 <= k <= TOKENS for k in args.keys):
        parser.error(f"at least 1 window and {FEWEST_CHANNELS} channels, and 1 to {TOKENS} keys")
    run_in_venv()
    from semanir_plugin.errors import UserError

    try:
        print_table(args.windows, args.channels, args.keys)
    except UserError as error:
        print(f"similarity_rounding: {error}", file=sys.stderr)
        return 2
    return 0


def print_table(windows: int, channels: int, keys: Sequence[int]) -> None:
    """Print what each format changes in both stages."""
    from semanir_plugin.evaluation.profiling.network_features import stage_inputs

    print("| stage | similarities | " + "".join(f"k = {k}: queries with other keys | " for k in keys), end="")
    print("largest error / product of lengths |\n" + "|---" * (3 + len(keys)) + "|")
    for stage in (0, 1):
        x = stage_inputs(windows, (SIDE, SIDE), channels, stage=stage)
        truth = x.double() @ x.double().mT
        lengths = x.double().norm(dim=-1)
        for name, similarities in in_formats(x).items():
            changed = [str(count_changed(truth, similarities, k)) for k in keys]
            error = ((similarities - truth).abs() / (lengths[:, :, None] * lengths[:, None])).max().item()
            print(f"| {stage} | {name} | {' | '.join(changed)} | {error:.1e} |", flush=True)


def in_formats(x: Tensor) -> dict[str, Tensor]:
    """Return similarities of (B, N, C) features as number formats have them, in fp64."""
    import torch

    scale = 2.0**14 / 2.0 ** x.abs().amax((1, 2), keepdim=True).log2().floor()
    first = (x * scale).half()
    rest = (x * scale - first.float()).half()
    tf32 = ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)  # 10 bits, rounded
    return {
        "fp32": (x @ x.mT).double(),
        "halves": on_tensor_cores([(rest, first), (first, rest), (first, first)]) / scale.double() ** 2,
        "TF32": on_tensor_cores([(tf32, tf32)]),
        "bf16": on_tensor_cores([(x.bfloat16(), x.bfloat16())]),
    }


def on_tensor_cores(factors: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of products of (B, N, C) factors, cut after each step."""
    import torch

    total = torch.zeros((), dtype=torch.float64)
    for start in range(0, factors[0][0].shape[-1], CHANNELS_AT_ONCE):
        for left, right in factors:
            part = slice(start, start + CHANNELS_AT_ONCE)
            total = total + left[..., part].double() @ right[..., part].double().mT
            mantissa, exponent = torch.frexp(total)
            total = torch.ldexp((mantissa * 2.0**BITS_OF_SUMS).trunc(), exponent - BITS_OF_SUMS)
    return total


def count_changed(truth: Tensor, similarities: Tensor, k: int) -> int:
    """Return how many queries keep another key than the truth has among its k largest, ties apart."""
    kept = similarities.topk(k).indices
    least_kept = truth.gather(-1, kept).amin(-1)
    most_dropped = truth.scatter(-1, kept, float("-inf")).amax(-1)
    return int((most_dropped > least_kept).sum())


if __name__ == "__main__":
    sys.exit(main())
