"""Triton kernels of the heads of scaled cosine attention: a program has some tokens of one head.

The joint projection and its gradient are contiguous, (B, N, 3, H, D). The rows of q, k and v, (B, H, N, D), lie BD
apart, zeros between them. Their gradients have any strides but for adjacent elements of a row. What lies past the
tokens or past D is loaded as zeros. No kernel uses atomics.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["cosine_qkv_bwd_kernel", "cosine_qkv_fwd_kernel"]

SHORTEST = tl.constexpr(1e-12)


@triton.jit
def _length(b_x):
    """Return the lengths of rows, at least `SHORTEST`, and which are at least that of themselves; NaN stays NaN."""
    b_length = tl.sqrt(tl.sum(b_x * b_x, 1))
    m_long = b_length >= SHORTEST
    return tl.where(b_length < SHORTEST, SHORTEST, b_length), m_long


@triton.jit
def _unit_gradient(b_x, b_grad, scale):
    """Return the gradients of scale x / |x| for x and, by row, for `scale`."""
    b_length, m_long = _length(b_x)
    b_along = tl.sum(b_x * b_grad, 1) / b_length  # part of the gradient that only lengthens x
    b_factor = scale / b_length
    b_back = tl.where(m_long, b_factor * b_along / b_length, 0.0)
    return b_factor[:, None] * b_grad - b_back[:, None] * b_x, b_along


@triton.jit
def cosine_qkv_fwd_kernel(p_qkv, p_scale, p_q, p_k, p_v, TOKENS, N, H, D, BM: tl.constexpr, BD: tl.constexpr):
    """Write q, k and v of some of the TOKENS = B N tokens."""
    i_h = tl.program_id(1)
    o_t = tl.program_id(0) * BM + tl.arange(0, BM)
    o_d = tl.arange(0, BD)
    m_rows = (o_t < TOKENS)[:, None] & (o_d < D)[None, :]
    o_from = (tl.cast(o_t, tl.int64) * (3 * H * D) + i_h * D)[:, None] + o_d[None, :]
    o_b, o_n = tl.cast(o_t // N, tl.int64), o_t % N
    o_to = (((o_b * H + i_h) * N + o_n) * BD)[:, None] + o_d[None, :]
    m_to = (o_t < TOKENS)[:, None]
    b_q = tl.load(p_qkv + o_from, mask=m_rows, other=0.0).to(tl.float32)
    b_k = tl.load(p_qkv + H * D + o_from, mask=m_rows, other=0.0).to(tl.float32)
    b_v = tl.load(p_qkv + 2 * H * D + o_from, mask=m_rows, other=0.0)
    b_q_length, _ = _length(b_q)
    b_k_length, _ = _length(b_k)
    b_q *= (tl.load(p_scale + i_h) / b_q_length)[:, None]
    b_k *= (1.0 / b_k_length)[:, None]
    tl.store(p_q + o_to, b_q.to(p_q.dtype.element_ty), mask=m_to)
    tl.store(p_k + o_to, b_k.to(p_k.dtype.element_ty), mask=m_to)
    tl.store(p_v + o_to, b_v, mask=m_to)


@triton.jit
def cosine_qkv_bwd_kernel(
    p_qkv, p_scale, p_dq, p_dk, p_dv, p_dqkv, p_dscale,
    s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn,
    TOKENS, N, H, D, BM: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the joint projection, and a row of those of `scale`, which are to be added."""
    i_block, i_h = tl.program_id(0), tl.program_id(1)
    o_t = i_block * BM + tl.arange(0, BM)
    o_d = tl.arange(0, BD)
    m_rows = (o_t < TOKENS)[:, None] & (o_d < D)[None, :]
    o_qkv = (tl.cast(o_t, tl.int64) * (3 * H * D) + i_h * D)[:, None] + o_d[None, :]
    o_b, o_n = tl.cast(o_t // N, tl.int64), o_t % N
    o_dq = (o_b * s_qb + i_h * s_qh + o_n * s_qn)[:, None] + o_d[None, :]
    o_dk = (o_b * s_kb + i_h * s_kh + o_n * s_kn)[:, None] + o_d[None, :]
    o_dv = (o_b * s_vb + i_h * s_vh + o_n * s_vn)[:, None] + o_d[None, :]
    b_x = tl.load(p_qkv + o_qkv, mask=m_rows, other=0.0).to(tl.float32)
    b_grad = tl.load(p_dq + o_dq, mask=m_rows, other=0.0).to(tl.float32)
    b_dx, b_along = _unit_gradient(b_x, b_grad, tl.load(p_scale + i_h))
    tl.store(p_dqkv + o_qkv, b_dx.to(p_dqkv.dtype.element_ty), mask=m_rows)
    tl.store(p_dscale + i_block * H + i_h, tl.sum(b_along, 0))
    b_x = tl.load(p_qkv + H * D + o_qkv, mask=m_rows, other=0.0).to(tl.float32)
    b_grad = tl.load(p_dk + o_dk, mask=m_rows, other=0.0).to(tl.float32)
    b_dx, b_along = _unit_gradient(b_x, b_grad, 1.0)
    tl.store(p_dqkv + H * D + o_qkv, b_dx.to(p_dqkv.dtype.element_ty), mask=m_rows)
    b_grad = tl.load(p_dv + o_dv, mask=m_rows, other=0.0)
    tl.store(p_dqkv + 2 * H * D + o_qkv, b_grad, mask=m_rows)
