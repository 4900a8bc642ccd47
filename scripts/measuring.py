"""What benchmarks of ops need beside `evaluation.benchmark`: a check of results, a GPU's lower bound, colours."""

from __future__ import annotations

import sys
from typing import Any

TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 1e-2}
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")  # Okabe-Ito, safe for all eyes


def check(name: str, results: list[Any], truth: list[Any]) -> None:
    """Refuse to time wrong results: compare tensors by relative RMS, in the tolerance of the first one's dtype."""
    errors = [((a.float() - b.float()).norm() / b.float().norm()).item() for a, b in zip(results, truth, strict=True)]
    if not max(errors) < TOLERANCES[str(results[0].dtype).removeprefix("torch.")]:
        sys.exit(f"{name} differs from naive by {max(errors):.1e}; nothing is measured")


class Floor:
    """Lower bound of a GPU's times, by its measured rates of matrix products and of exponentials.

    Args:
        dtype: Name of the dtype that is multiplied, such as "bfloat16".
    """

    def __init__(self, dtype: str) -> None:
        import torch

        from semanir_plugin.evaluation.benchmark.measuring import take_turns

        side = 8192
        a = torch.randn(side, side, device="cuda", dtype=getattr(torch, dtype))
        self.flops_per_ms = 2 * side**3 / take_turns([lambda: a @ a], 10, "cuda")[0].median
        self.exponentials_per_ms = _exponentials_per_ms()

    def ms(self, flops: float, exponentials: float) -> float:
        """Return the larger of the two times: a GPU can overlap both, and do neither faster."""
        return max(flops / self.flops_per_ms, exponentials / self.exponentials_per_ms)


def _exponentials_per_ms() -> float:
    import torch
    from exponential_kernels import run

    from semanir_plugin.evaluation.benchmark.measuring import take_turns

    programs, rounds, block = 132 * 16, 512, 1024
    out = torch.empty(programs * block, device="cuda")
    return programs * rounds * block / take_turns([lambda: run(out, programs, rounds, block)], 10, "cuda")[0].median
