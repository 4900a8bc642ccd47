"""Device functions that the kernels of several ops call.

Names of sizes, in all of them: BM rows of a tile that a program keeps, BN those that it meets one after another, BD the
width of rows, a power of two, of which D are there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from semanir_plugin.ops.common.triton_support import has_ptx, interpreted

__all__ = ["PTX", "dot", "load_rows", "store_rows"]

INTERPRETED = tl.constexpr(interpreted())
PTX = tl.constexpr(has_ptx())


@triton.jit
def dot(b_x, b_y, b_sum, PRECISION: tl.constexpr):
    """Return b_x @ b_y + b_sum in fp32; PRECISION is of fp32 factors."""
    if INTERPRETED:  # it would multiply the bits of bf16 numbers
        b_x, b_y = b_x.to(tl.float32), b_y.to(tl.float32)
    # (M, K) @ (K, N)
    return tl.dot(b_x, b_y, b_sum, input_precision=PRECISION)


@triton.jit
def load_rows(p_x, o_n, s_n, N, D, BD: tl.constexpr):
    """Load rows of BD numbers; those from N on, and columns from D on, are 0."""
    o_d = tl.arange(0, BD)
    m_rows = (o_n < N)[:, None] & (o_d < D)[None, :]
    return tl.load(p_x + o_n[:, None] * s_n + o_d[None, :], mask=m_rows, other=0.0)


@triton.jit
def store_rows(p_x, o_n, b_x, s_n, N, D, BD: tl.constexpr):
    """Store rows of D numbers, the counterpart of `load_rows`."""
    o_d = tl.arange(0, BD)
    m_rows = (o_n < N)[:, None] & (o_d < D)[None, :]
    tl.store(p_x + o_n[:, None] * s_n + o_d[None, :], b_x.to(p_x.dtype.element_ty), mask=m_rows)
