"""Kernels that find each token's k most similar tokens and write them at a bit per pair.

Similarities stay in registers: the k-th largest of a query is found by counting how many of them reach a trial value,
once per bit, so they are read up to 32 times but never sorted nor written. Counts are sums in fp32: one instruction
compares two such numbers to 1.0 or 0.0, where it takes two for integers. Tiles hold keys along axis 0 and queries along
axis 1: a thread then has few queries and many keys, and a count takes few shuffles between threads.

Tensor cores multiply numbers of 16 bits. A feature of fp32 goes to them in two halves, fp16 numbers whose sum it is but
for 2^-23 of the largest of its token: three products of halves, summed in fp32, are as exact as fp32 products are, by
the measure of the tokens' lengths.
"""

from __future__ import annotations

import triton
import triton.language as tl

from semanir_plugin.ops.common.triton_kernels import PTX

__all__ = ["key_semantics_kernel", "key_semantics_long_kernel", "key_semantics_rows_kernel", "number_at"]

# The largest feature of a window is scaled to 2^14 and less than 2^15, as fp16 ends below 2^16. Its smallest step is
# 2^-24: tokens whose largest is not less than it by more than SPAN keep what is above 2^-29 of that.
LARGEST_EXPONENT = tl.constexpr(14)
SPAN = tl.constexpr(2.0**10)
# Windows whose largest feature is beyond this or below its inverse stay as they are: products of fp32 may end there.
RANGE = tl.constexpr(2.0**50)


@triton.jit
def _scale(p_largest, N, NP: tl.constexpr):
    """Return the power of two that a window is multiplied by to be split into halves, 0 where these would not do.

    `p_largest` has each token's largest feature, without its sign. An order of similarities is that of the features
    times anything above 0.
    """
    o_n = tl.arange(0, NP)
    # Their bits are in the order of such numbers, infinity and NaN above all.
    b_largest = tl.load(p_largest + o_n, mask=o_n < N, other=0.0).to(tl.int32, bitcast=True)
    most = tl.max(b_largest, 0)
    least = tl.min(tl.where(b_largest == 0, most, b_largest), 0)
    scale = ((-(most >> 23) + (LARGEST_EXPONENT + 2 * 127)) << 23).to(tl.float32, bitcast=True)
    most = most.to(tl.float32, bitcast=True)
    fits = (least.to(tl.float32, bitcast=True) * SPAN >= most) & (most > 1 / RANGE) & (most < RANGE)
    return tl.where(fits, scale, 0.0)


@triton.jit(do_not_specialize=["N", "C", "CP"])
def key_semantics_rows_kernel(
    p_x, p_largest, p_scale, p_rows, p_halves, N, C, CP, NP: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr
):
    """Write a row of NP tokens for each of CP channels of (B, N, C) features, past N and C zeros.

    Where `p_largest` is given, of fp32 features, the scale of each window is written too, see `_scale`: one that has a
    scale in halves, the rows of what the first halves leave behind those of the first, others as they are. Both take
    the same memory, which `p_rows` and `p_halves` share.
    """
    i_b = tl.program_id(0).to(tl.int64)
    o_n = tl.program_id(1) * BN + tl.arange(0, BN)
    o_c = tl.program_id(2) * BC + tl.arange(0, BC)
    m_x = (o_n < N)[:, None] & (o_c < C)[None, :]
    b_x = tl.trans(tl.load(p_x + (i_b * N + o_n[:, None]) * C + o_c[None, :], mask=m_x, other=0.0))
    o_to = o_c[:, None] * NP + o_n[None, :]
    m_to = (o_c < CP)[:, None] & (o_n < NP)[None, :]
    if p_largest is None:
        tl.store(p_rows + i_b * CP * NP + o_to, b_x, mask=m_to)
    else:
        scale = _scale(p_largest + i_b * N, N, NP)
        if tl.program_id(1) + tl.program_id(2) == 0:
            tl.store(p_scale + i_b, scale)
        if scale == 0:
            tl.store(p_rows + i_b * CP * NP + o_to, b_x, mask=m_to)
        else:
            b_x *= scale
            b_first = b_x.to(tl.float16)
            p_window = p_halves + i_b * 2 * CP * NP
            tl.store(p_window + o_to, b_first, mask=m_to)
            tl.store(p_window + CP * NP + o_to, (b_x - b_first.to(tl.float32)).to(tl.float16), mask=m_to)


@triton.jit
def number_at(b_place):
    """Return the fp32 numbers at places of their order, uint32: the order of numbers is that of their places."""
    b_bits = tl.where(b_place >> 31 == 1, b_place ^ 0x80000000, b_place ^ 0xFFFFFFFF)
    return b_bits.to(tl.float32, bitcast=True)


@triton.jit
def _similarities(
    p_x, p_labels, i_query, i_key, C,
    NP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, HALVES: tl.constexpr,
):  # fmt: skip
    """Return (BN, BM) fp32, NaN where a query may not keep a key; similarities that are NaN as minus infinity.

    With HALVES the rows of what first halves leave lie C rows behind those; the product of two of them is too small to
    be missed.
    """
    o_i = i_query + tl.arange(0, BM)
    o_j = i_key + tl.arange(0, BN)
    # On tensor cores the queries are the rows: products of 64 rows and more take instructions that keep their results
    # where a search cannot read them at once.
    TENSOR_CORES: tl.constexpr = p_x.dtype.element_ty != tl.float32
    b_s = tl.zeros((BM, BN) if TENSOR_CORES else (BN, BM), tl.float32)
    for start in range(0, C, BC):
        p_c = p_x + (start + tl.arange(0, BC))[:, None] * NP
        b_k = tl.load(p_c + o_j[None, :])
        b_q = tl.load(p_c + o_i[None, :])
        if TENSOR_CORES:
            # (BM, BC) @ (BC, BN)
            if HALVES:
                b_q_left = tl.load(p_c + C * NP + o_i[None, :])
                b_s = tl.dot(tl.trans(b_q_left), b_k, b_s)
                b_k_left = tl.load(p_c + C * NP + o_j[None, :])
                b_s = tl.dot(tl.trans(b_q), b_k_left, b_s)
            b_s = tl.dot(tl.trans(b_q), b_k, b_s)
        else:
            # (BN, BC) @ (BC, BM)
            b_s = tl.dot(tl.trans(b_k), b_q, b_s, input_precision="ieee")
    if TENSOR_CORES:
        b_s = tl.trans(b_s)
    b_label = tl.load(p_labels + o_i)  # negative past the window's end
    m_pair = (tl.load(p_labels + o_j)[:, None] == b_label[None, :]) & (b_label >= 0)[None, :]
    return tl.where(m_pair, tl.where(b_s == b_s, b_s, float("-inf")), float("nan"))


@triton.jit
def _count(m):
    """Return (M,) fp32: how many of each column are true."""
    return tl.sum(tl.where(m, 1.0, 0.0), 0)


@triton.jit
def _count_from(b_s, b_least):
    """Return (M,) fp32: how many numbers of each column are `b_least` or more."""
    if PTX:
        # ptxas would pack the predicates of a tile into registers, and take them apart again.
        b_reach = tl.inline_asm_elementwise(
            "set.ge.f32.f32 $0, $1, $2;", "=f,f,f", [b_s, b_least[None, :]], dtype=tl.float32, is_pure=True, pack=1
        )
        return tl.sum(b_reach, 0)
    else:
        return _count(b_s >= b_least[None, :])


@triton.jit
def _keep(b_s, K, NP: tl.constexpr):
    """Return (NP, M) bool: the k largest numbers of each column, of equal ones the first, and no NaN.

    The place of the k-th largest is the largest that k numbers reach: built from its highest bit down, until those that
    reach it are just k. Where they never are, some equal it, and the index below which they are kept is found alike.
    No number reaches the places of NaN, past both infinities: a place of 0 at the end is that of minus infinity.
    """
    b_reach = _count(b_s == b_s)
    b_want = tl.minimum(b_reach, tl.cast(K, tl.float32))
    b_place = tl.zeros(b_want.shape, tl.uint32)
    i_bit = 31
    excess = tl.max(b_reach - b_want, 0)
    while (excess > 0) & (i_bit >= 0):
        b_trial = b_place | (tl.full(b_want.shape, 1, tl.uint32) << i_bit)
        b_count = _count_from(b_s, number_at(b_trial))
        b_place = tl.where(b_count >= b_want, b_trial, b_place)
        b_reach = tl.where(b_count >= b_want, b_count, b_reach)
        excess = tl.max(b_reach - b_want, 0)
        i_bit -= 1
    b_least = tl.where(b_place == 0, float("-inf"), number_at(b_place))
    o_j = tl.arange(0, NP)[:, None]
    b_end = tl.full(b_want.shape, NP, tl.int32)
    if excess > 0:
        b_end = _end_of_ties(b_s, b_least, b_want, NP)
    return (b_s > b_least[None, :]) | ((b_s == b_least[None, :]) & (o_j < b_end[None, :]))


@triton.jit
def _end_of_ties(b_s, b_least, b_want, NP: tl.constexpr):
    """Return (M,) int32: the index below which numbers equal to `b_least` are kept."""
    o_j = tl.arange(0, NP)[:, None]
    b_room = b_want - _count(b_s > b_least[None, :])
    b_end = tl.zeros(b_room.shape, tl.int32)
    step = NP
    while step > 0:
        b_count = _count((b_s == b_least[None, :]) & (o_j < (b_end + step)[None, :]))
        b_end = tl.where(b_count <= b_room, b_end + step, b_end)
        step = step // 2
    return b_end


@triton.jit
def _store_packed(p_packed, m_keep, o_i, N, NP: tl.constexpr, M: tl.constexpr):
    words = (N + 31) // 32
    o_w = tl.arange(0, NP // 32)
    b_bits = tl.reshape(m_keep.to(tl.int32), (NP // 32, 32, M)) << tl.arange(0, 32)[None, :, None]
    p_words = p_packed + o_i[None, :] * words + o_w[:, None]
    tl.store(p_words, tl.sum(b_bits, 1), mask=(o_i < N)[None, :] & (o_w < words)[:, None])


@triton.jit
def _is_due(p_scale, i_b, HALVES: tl.constexpr):
    """Tell whether a kernel has to do with a window: its features lie as the kernel reads them."""
    if p_scale is None:
        return True
    else:
        return (tl.load(p_scale + i_b) != 0) == HALVES


@triton.jit(do_not_specialize=["N", "C", "K", "R"])
def key_semantics_kernel(
    p_x, p_scale, p_labels, p_packed, N, C, K, R,
    NP: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, HALVES: tl.constexpr,
):  # fmt: skip
    """Each program has BM queries of a window of at most NP tokens, and all their similarities in registers."""
    blocks = tl.cdiv(N, BM)
    i_b = (tl.program_id(0) // blocks).to(tl.int64)
    i_query = tl.program_id(0) % blocks * BM
    if _is_due(p_scale, i_b, HALVES):
        p_window = p_x + i_b * C * NP * (2 if HALVES else 1)
        b_s = _similarities(p_window, p_labels + i_b % R * NP, i_query, 0, C, NP, BM, NP, BC, HALVES)
        m_keep = _keep(b_s, K, NP)
        _store_packed(p_packed + i_b * N * ((N + 31) // 32), m_keep, i_query + tl.arange(0, BM), N, NP, BM)


@triton.jit(do_not_specialize=["N", "C", "K", "R", "BLOCKS"])
def key_semantics_long_kernel(
    p_x, p_scale, p_labels, p_packed, p_scratch, N, C, K, R, BLOCKS,
    NP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr, HALVES: tl.constexpr,
):  # fmt: skip
    """As above where the similarities are too many for the registers: BN keys at a time into a scratch, BR rows back.

    A program takes one block of BM queries after another and has a scratch of BM * NP similarities, which lies in the
    cache: its size is that of the grid, not of the batch.
    """
    blocks = tl.cdiv(N, BM)
    o_key, o_query = tl.arange(0, BN)[:, None], tl.arange(0, BM)[None, :]
    o_j, o_r = tl.arange(0, NP)[:, None], tl.arange(0, BR)
    own = p_scratch + tl.program_id(0).to(tl.int64) * BM * NP
    for i_block in range(tl.program_id(0), BLOCKS, tl.num_programs(0)):
        i_b = (i_block // blocks).to(tl.int64)
        i_query = i_block % blocks * BM
        if _is_due(p_scale, i_b, HALVES):
            p_window = p_x + i_b * C * NP * (2 if HALVES else 1)
            for i_key in range(0, N, BN):
                b_s = _similarities(p_window, p_labels + i_b % R * NP, i_query, i_key, C, NP, BM, BN, BC, HALVES)
                tl.store(own + o_query * NP + i_key + o_key, b_s)
            tl.debug_barrier()
            for i_row in range(0, BM, BR):
                b_rows = tl.load(own + (i_row + o_r)[None, :] * NP + o_j, mask=o_j < N, other=float("nan"))
                m_keep = _keep(b_rows, K, NP)
                _store_packed(p_packed + i_b * N * ((N + 31) // 32), m_keep, i_query + i_row + o_r, N, NP, BR)
            tl.debug_barrier()
