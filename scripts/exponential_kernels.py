"""GPU kernel that does nothing but exponentials, to measure a GPU's rate of them. Needs Triton."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _exponentials(p_out, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = offsets.to(tl.float32) * -1e-6
    for _ in range(ROUNDS):
        x = tl.exp2(-x)  # each needs the one before it, so none can be left out; x stays in [0, 1]
    tl.store(p_out + offsets, x)


def run(out: Tensor, programs: int, rounds: int, block: int) -> None:
    """Write `programs * block` results of `rounds` exponentials each into `out`, fp32 on CUDA."""
    _exponentials[(programs,)](out, ROUNDS=rounds, BLOCK=block, num_warps=4)
