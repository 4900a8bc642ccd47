"""Triton kernels of key-semantic attention: groups of like queries, each with one list of the keys they chose.

A program has BM of a group's 64 tokens and goes through the group's list BN at a time, see `triton_groups`; a bit for
each pair tells whether the query chose the key. Rows of q, k and v are gathered by the list. Scores are in base 2:
scale and bias times log2(e). A score that is masked is -inf, and its weight exactly 0.

All rows begin at multiples of 16 elements and are read BD wide, whatever lies behind their width D. What that is, and
what keys hold that a query did not choose, is multiplied by 0, and matters only where it is not finite: then the result
is not finite either, and the program begins again with the care that this takes. So a number nobody chose reaches
nobody, at no cost where all is finite.
"""

from __future__ import annotations

import triton
import triton.language as tl

from semanir_plugin.ops.common.triton_kernels import PTX, dot, load_rows, store_rows
from semanir_plugin.ops.key_semantic_attention.triton_group_kernels import GROUP

__all__ = [
    "key_semantic_attention_bwd_bias_kernel",
    "key_semantic_attention_bwd_kv_kernel",
    "key_semantic_attention_bwd_q_kernel",
    "key_semantic_attention_fwd_kernel",
]

LOG2_E = tl.constexpr(1.4426950408889634)
INFINITY = tl.constexpr(float("inf"))
# Listed tokens at a time where care is needed: the few registers that this takes are to be had without cost.
CAREFUL_BN = tl.constexpr(16)
# Sizes that would compile a kernel anew where they are 1 or multiples of 16, for nothing.
COUNTS = ["H", "N", "T", "B", "W", "SPLITS"]


@triton.jit(do_not_specialize=COUNTS)
def key_semantic_attention_fwd_kernel(
    p_q, p_k, p_v, p_bias, p_order, p_lists, p_bits, p_counts, p_out, p_lse,
    scale, H, N, T, s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn,
    SIDE: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Output, and the base-2 logarithm of each softmax's denominator: one program per head and BM queries."""
    i_h, i_g, i_b, o_m = _program(H, T, BM)
    o_q = tl.load(p_order + i_g * GROUP + o_m)
    b_q = load_rows(p_q + i_b * s_qb + i_h * s_qh, o_q, s_qn, N, D, BD)
    p_k += i_b * s_kb + i_h * s_kh
    p_v += i_b * s_vb + i_h * s_vh
    p_list = p_lists + i_g * T * GROUP
    p_words = p_bits + i_g * T * (GROUP * GROUP // 32) + o_m
    b_table = _load_table(p_bias, i_h, SIDE, ENTRIES)
    count = tl.load(p_counts + i_g)
    b_out, b_max, b_sum = _attend(
        p_list, p_words, count, p_k, p_v, p_bias, b_q, b_table, o_q, i_h, scale, N, s_kn, s_vn,
        SIDE, ENTRIES, PRECISION, D, DV, BD, BDV, BM, BN, False,
    )  # fmt: skip
    if not _is_finite(b_out):
        b_out, b_max, b_sum = _attend(
            p_list, p_words, count, p_k, p_v, p_bias, b_q, b_table, o_q, i_h, scale, N, s_kn, s_vn,
            SIDE, ENTRIES, PRECISION, D, DV, BD, BDV, BM, CAREFUL_BN, True,
        )  # fmt: skip
    b_sum = tl.where(o_q < N, b_sum, 1.0)
    store_rows(p_out + i_b * N * H * DV + i_h * DV, o_q, b_out / b_sum[:, None], H * DV, N, DV, BDV)
    tl.store(p_lse + (i_b * H + i_h) * N + o_q, b_max + tl.log2(b_sum), mask=o_q < N)


@triton.jit
def _attend(
    p_list, p_words, count, p_k, p_v, p_bias, b_q, b_table, o_q, i_h, scale, N, s_kn, s_vn,
    SIDE: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    CAREFUL: tl.constexpr,
):  # fmt: skip
    """Return the output before it is divided, the maxima of the scores, and the sums to divide by."""
    o_n = tl.arange(0, BN)
    o_row = _query_place(tl.minimum(o_q, N - 1), N, SIDE)  # padding keeps no key
    b_max = tl.full([BM], -INFINITY, dtype=tl.float32)
    b_sum = tl.zeros([BM], dtype=tl.float32)
    b_out = tl.zeros([BM, BDV], dtype=tl.float32)
    for i in range(0, count, BN):
        o_k = tl.load(p_list + i + o_n)
        b_kept = _load_kept(p_words, i, BN)
        b_k = _load_listed(p_k, o_k, s_kn, D, BD, CAREFUL)
        b_v = _load_listed(p_v, o_k, s_vn, DV, BDV, CAREFUL)
        # (BM, BD) @ (BD, BN) -> (queries, keys)
        b_s = dot(b_q, tl.trans(b_k), None, PRECISION)
        b_s, factor = _add_bias(b_s, p_bias, b_table, i_h, o_row, _key_place(o_k, SIDE), scale, N, SIDE, ENTRIES)
        b_s = _keep(b_s, b_kept, -INFINITY)
        b_new = tl.maximum(b_max, tl.max(b_s, 1) * factor)
        # A row without a key so far has the maximum -inf, which must not be subtracted from itself.
        b_shift = tl.where(b_new == -INFINITY, 0.0, b_new)
        b_p = tl.exp2(b_s * factor - b_shift[:, None])
        b_alpha = tl.exp2(b_max - b_shift)
        b_sum = b_sum * b_alpha + tl.sum(b_p, 1)
        # (BM, BN) @ (BN, BDV) -> (queries, BDV)
        b_out = _weigh(b_p, b_kept, b_v, b_out * b_alpha[:, None], PRECISION, CAREFUL)
        b_max = b_new
    return b_out, b_max, b_sum


@triton.jit(do_not_specialize=COUNTS)
def key_semantic_attention_bwd_q_kernel(
    p_q, p_k, p_v, p_bias, p_order, p_lists, p_bits, p_counts, p_out, p_lse, p_grad, p_rows, p_delta, p_dq,
    scale, H, N, T, s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn, s_gb, s_gh, s_gn,
    SIDE: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries: programs as in the forward.

    Leaves what the kernels after it read: delta, the sum over keys of weight times gradient, and the rows of the
    output's gradient, padded with zeros to BDV.
    """
    i_h, i_g, i_b, o_m = _program(H, T, BM)
    o_q = tl.load(p_order + i_g * GROUP + o_m)
    i_plane = i_b * H + i_h
    b_q = load_rows(p_q + i_b * s_qb + i_h * s_qh, o_q, s_qn, N, D, BD)
    b_grad = load_rows(p_grad + i_b * s_gb + i_h * s_gh, o_q, s_gn, N, DV, BDV)
    b_out = load_rows(p_out + i_b * N * H * DV + i_h * DV, o_q, H * DV, N, DV, BDV)
    b_lse = tl.load(p_lse + i_plane * N + o_q, mask=o_q < N, other=0.0)
    b_delta = tl.sum(b_out.to(tl.float32) * b_grad.to(tl.float32), 1)
    tl.store(p_delta + i_plane * N + o_q, b_delta, mask=o_q < N)
    store_rows(p_rows + i_plane * N * BDV, o_q, b_grad, BDV, N, BDV, BDV)
    p_k += i_b * s_kb + i_h * s_kh
    p_v += i_b * s_vb + i_h * s_vh
    p_list = p_lists + i_g * T * GROUP
    p_words = p_bits + i_g * T * (GROUP * GROUP // 32) + o_m
    b_table = _load_table(p_bias, i_h, SIDE, ENTRIES)
    count = tl.load(p_counts + i_g)
    b_dq = _differentiate_queries(
        p_list, p_words, count, p_k, p_v, p_bias, b_q, b_grad, b_lse, b_delta, b_table, o_q, i_h, scale, N, s_kn, s_vn,
        SIDE, ENTRIES, PRECISION, D, DV, BD, BDV, BM, BN, False,
    )  # fmt: skip
    if not _is_finite(b_dq):
        b_dq = _differentiate_queries(
            p_list, p_words, count, p_k, p_v, p_bias, b_q, b_grad, b_lse, b_delta, b_table, o_q, i_h, scale, N,
            s_kn, s_vn, SIDE, ENTRIES, PRECISION, D, DV, BD, BDV, BM, CAREFUL_BN, True,
        )  # fmt: skip
    store_rows(p_dq + i_plane * N * BD, o_q, b_dq * scale, BD, N, BD, BD)


@triton.jit
def _differentiate_queries(
    p_list, p_words, count, p_k, p_v, p_bias, b_q, b_grad, b_lse, b_delta, b_table, o_q, i_h, scale, N, s_kn, s_vn,
    SIDE: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    CAREFUL: tl.constexpr,
):  # fmt: skip
    o_n = tl.arange(0, BN)
    o_row = _query_place(tl.minimum(o_q, N - 1), N, SIDE)  # padding keeps no key
    b_dq = tl.zeros([BM, BD], dtype=tl.float32)
    for i in range(0, count, BN):
        o_k = tl.load(p_list + i + o_n)
        b_kept = _load_kept(p_words, i, BN)
        b_k = _load_listed(p_k, o_k, s_kn, D, BD, CAREFUL)
        b_v = _load_listed(p_v, o_k, s_vn, DV, BDV, CAREFUL)
        # (BM, BD) @ (BD, BN) -> (queries, keys)
        b_s = dot(b_q, tl.trans(b_k), None, PRECISION)
        b_s, factor = _add_bias(b_s, p_bias, b_table, i_h, o_row, _key_place(o_k, SIDE), scale, N, SIDE, ENTRIES)
        b_p = tl.exp2(b_s * factor - b_lse[:, None])
        # (BM, BDV) @ (BDV, BN) -> (queries, keys)
        b_dp = dot(b_grad, tl.trans(b_v), None, PRECISION)
        b_ds = _keep(b_p * (b_dp - b_delta[:, None]), b_kept, 0.0)
        # (BM, BN) @ (BN, BD) -> (queries, BD)
        b_dq = _weigh(b_ds, b_kept, b_k, b_dq, PRECISION, CAREFUL)
    return b_dq


@triton.jit(do_not_specialize=COUNTS)
def key_semantic_attention_bwd_kv_kernel(
    p_q, p_k, p_v, p_bias, p_order, p_lists, p_bits, p_counts, p_lse, p_rows, p_delta, p_dk, p_dv,
    scale, H, N, T, s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn,
    SIDE: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values: one program per head and BM keys, by the lists of the queries that chose any."""
    i_h, i_g, i_b, o_m = _program(H, T, BM)
    o_k = tl.load(p_order + i_g * GROUP + o_m)
    i_plane = i_b * H + i_h
    b_k = load_rows(p_k + i_b * s_kb + i_h * s_kh, o_k, s_kn, N, D, BD)
    b_v = load_rows(p_v + i_b * s_vb + i_h * s_vh, o_k, s_vn, N, DV, BDV)
    p_q += i_b * s_qb + i_h * s_qh
    p_rows += i_plane * N * BDV
    p_lse += i_plane * N
    p_delta += i_plane * N
    p_list = p_lists + i_g * T * GROUP
    p_words = p_bits + i_g * T * (GROUP * GROUP // 32) + o_m
    b_table = _load_table(p_bias, i_h, SIDE, ENTRIES)
    count = tl.load(p_counts + i_g)
    b_dk, b_dv = _differentiate_keys(
        p_list, p_words, count, p_q, p_rows, p_lse, p_delta, p_bias, b_k, b_v, b_table, o_k, i_h, scale, N, s_qn,
        SIDE, ENTRIES, PRECISION, D, DV, BD, BDV, BM, BN, False,
    )  # fmt: skip
    if not (_is_finite(b_dk) and _is_finite(b_dv)):
        b_dk, b_dv = _differentiate_keys(
            p_list, p_words, count, p_q, p_rows, p_lse, p_delta, p_bias, b_k, b_v, b_table, o_k, i_h, scale, N, s_qn,
            SIDE, ENTRIES, PRECISION, D, DV, BD, BDV, BM, CAREFUL_BN, True,
        )  # fmt: skip
    store_rows(p_dk + i_plane * N * BD, o_k, b_dk * scale, BD, N, BD, BD)
    store_rows(p_dv + i_plane * N * BDV, o_k, b_dv, BDV, N, BDV, BDV)


@triton.jit
def _differentiate_keys(
    p_list, p_words, count, p_q, p_rows, p_lse, p_delta, p_bias, b_k, b_v, b_table, o_k, i_h, scale, N, s_qn,
    SIDE: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    CAREFUL: tl.constexpr,
):  # fmt: skip
    """Return the gradients of keys and values; scores are transposed, key first."""
    o_n = tl.arange(0, BN)
    o_row = _key_place(tl.minimum(o_k, N - 1), SIDE)
    b_dk = tl.zeros([BM, BD], dtype=tl.float32)
    b_dv = tl.zeros([BM, BDV], dtype=tl.float32)
    for i in range(0, count, BN):
        o_q = tl.load(p_list + i + o_n)
        b_kept = _load_kept(p_words, i, BN)
        b_q = _load_listed(p_q, o_q, s_qn, D, BD, CAREFUL)
        b_grad = _load_listed(p_rows, o_q, BDV, DV, BDV, CAREFUL)
        b_lse = tl.load(p_lse + o_q)
        b_delta = tl.load(p_delta + o_q)
        # (BM, BD) @ (BD, BN) -> (keys, queries)
        b_s = dot(b_k, tl.trans(b_q), None, PRECISION)
        b_s, factor = _add_bias(b_s, p_bias, b_table, i_h, o_row, _query_place(o_q, N, SIDE), scale, N, SIDE, ENTRIES)
        b_p = tl.exp2(_keep(b_s * factor - b_lse[None, :], b_kept, -INFINITY))
        # (BM, BN) @ (BN, BDV) -> (keys, BDV)
        b_dv = _weigh(b_p, b_kept, b_grad, b_dv, PRECISION, CAREFUL)
        # (BM, BDV) @ (BDV, BN) -> (keys, queries)
        b_dp = dot(b_v, tl.trans(b_grad), None, PRECISION)
        b_ds = b_p * (b_dp - b_delta[None, :])
        if CAREFUL:
            b_ds = _keep(b_ds, b_kept, 0.0)
        # (BM, BN) @ (BN, BD) -> (keys, BD)
        b_dk = _weigh(b_ds, b_kept, b_q, b_dk, PRECISION, CAREFUL)
    return b_dk, b_dv


@triton.jit(do_not_specialize=COUNTS)
def key_semantic_attention_bwd_bias_kernel(
    p_q, p_k, p_v, p_bias, p_packed, p_lse, p_rows, p_delta, p_parts,
    scale, B, H, N, W, T, SPLITS, s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn,
    SIDE: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr,
    BM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradient of the bias, summed over windows inside one program: no atomics, always in the same order.

    Tokens stand in their own order. Dense: one program per head, pair of tiles of COLUMNS tokens, and part of the
    windows. Table: a tile is ROWS x COLUMNS tokens of the window, and pairs of tiles that are equally far apart share
    their entries: one program per head, distance in rows, pair of columns of tiles, and part of the windows.
    """
    i_h, i_part, i_task = tl.program_id(0) % H, tl.program_id(0) // H % SPLITS, tl.program_id(0) // (H * SPLITS)
    i_plane = (i_part * H + i_h).to(tl.int64)
    o_t = tl.arange(0, BM)
    if SIDE:
        ACROSS: tl.constexpr = (SIDE + COLUMNS - 1) // COLUMNS
        i_apart = i_task // (ACROSS * ACROSS) - (T - 1)
        i_first = tl.maximum(i_apart, 0)
        pairs = T - tl.maximum(i_apart, -i_apart)
        i_query = i_task // ACROSS % ACROSS * COLUMNS
        i_key = i_task % ACROSS * COLUMNS
        m_q = (o_t < ROWS * COLUMNS) & (i_query + o_t % COLUMNS < SIDE)
        m_k = (o_t < ROWS * COLUMNS) & (i_key + o_t % COLUMNS < SIDE)
        o_y = i_apart * ROWS + (o_t // COLUMNS)[:, None] - (o_t // COLUMNS)[None, :] + SIDE - 1
        o_x = (i_query + o_t % COLUMNS)[:, None] - (i_key + o_t % COLUMNS)[None, :] + SIDE - 1
        m_bias = m_q[:, None] & m_k[None, :] & (o_y >= 0) & (o_y < 2 * SIDE - 1)
        o_bias = o_y * (2 * SIDE - 1) + o_x
        p_bias += i_h * (ENTRIES if ENTRIES else (2 * SIDE - 1) * (2 * SIDE - 1))
        i_key -= i_apart * ROWS * SIDE
    else:
        i_first = 0
        pairs = 1
        i_query = i_task // T * COLUMNS
        i_key = i_task % T * COLUMNS
        m_q = i_query + o_t < N
        m_k = i_key + o_t < N
        m_bias = m_q[:, None] & m_k[None, :]
        o_bias = (i_query + o_t)[:, None] * N + (i_key + o_t)[None, :]
        p_bias += i_h.to(tl.int64) * N * N
    # One patch of the bias serves the whole program. No weight is left to what is no pair of the patch.
    b_bias = tl.load(p_bias + o_bias, mask=m_bias, other=-INFINITY)
    length = tl.cdiv(B * pairs, SPLITS)
    start, end = i_part * length, tl.minimum((i_part + 1) * length, B * pairs)
    b_sum = _differentiate_bias(
        start, end, pairs, i_first, i_query, i_key, m_q, m_k, b_bias, p_q, p_k, p_v, p_packed, p_lse, p_rows, p_delta,
        scale, B, H, N, W, i_h, s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn,
        SIDE, PRECISION, D, DV, BD, BDV, BM, ROWS, COLUMNS, False,
    )  # fmt: skip
    if not _is_finite(b_sum):
        b_sum = _differentiate_bias(
            start, end, pairs, i_first, i_query, i_key, m_q, m_k, b_bias, p_q, p_k, p_v, p_packed, p_lse, p_rows,
            p_delta, scale, B, H, N, W, i_h, s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn,
            SIDE, PRECISION, D, DV, BD, BDV, BM, ROWS, COLUMNS, True,
        )  # fmt: skip
    # Whole tiles: the places in the bias would fill registers all the way.
    p_tile = p_parts + (i_plane * (tl.num_programs(0) // (H * SPLITS)) + i_task) * BM * BM
    tl.store(p_tile + o_t[:, None] * BM + o_t[None, :], b_sum)


@triton.jit
def _differentiate_bias(
    start, end, pairs, i_first, i_query, i_key, m_q, m_k, b_bias, p_q, p_k, p_v, p_packed, p_lse, p_rows, p_delta,
    scale, B, H, N, W, i_h, s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn,
    SIDE: tl.constexpr, PRECISION: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr,
    BM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CAREFUL: tl.constexpr,
):  # fmt: skip
    o_t = tl.arange(0, BM)
    b_sum = tl.zeros([BM, BM], dtype=tl.float32)
    for i in range(start, end):
        i_b = (i // pairs).to(tl.int64)
        # Dense: zero, but the compiler cannot know, and does not keep the addresses of all rows in registers.
        i_start = (i_first + i % pairs) * (ROWS * SIDE) if SIDE else i // B * BM
        o_q = tl.where(m_q, tl.minimum(i_start + i_query + o_t, N), N)
        o_k = tl.where(m_k, tl.minimum(i_start + i_key + o_t, N), N)
        i_plane = i_b * H + i_h
        b_q = load_rows(p_q + i_b * s_qb + i_h * s_qh, o_q, s_qn, N, D, BD)
        b_k = load_rows(p_k + i_b * s_kb + i_h * s_kh, o_k, s_kn, N, D if CAREFUL else BD, BD)
        b_v = load_rows(p_v + i_b * s_vb + i_h * s_vh, o_k, s_vn, N, DV if CAREFUL else BDV, BDV)
        b_grad = load_rows(p_rows + i_plane * N * BDV, o_q, BDV, N, BDV, BDV)
        b_lse = tl.load(p_lse + i_plane * N + o_q, mask=o_q < N, other=0.0)
        b_delta = tl.load(p_delta + i_plane * N + o_q, mask=o_q < N, other=0.0)
        i_word = (i_start + i_key) // 32
        p_words = p_packed + (i_b * N + o_q) * W + i_word
        if (ROWS * SIDE) % 32 == 0 and (COLUMNS % 32 == 0 or SIDE <= COLUMNS):
            b_kept = _load_row_bits(p_words, 0, o_q < N, W - i_word, BM, BM // 32)
        else:
            b_kept = _load_row_bits(p_words, (i_start + i_key) % 32, o_q < N, W - i_word, BM, BM // 32 + 1)
        # (BM, BD) @ (BD, BM) -> (queries, keys)
        b_s = dot(b_q, tl.trans(b_k), None, PRECISION) * (scale * LOG2_E) + b_bias
        b_p = tl.exp2(_keep(b_s - b_lse[:, None], b_kept, -INFINITY))
        # (BM, BDV) @ (BDV, BM) -> (queries, keys)
        b_dp = dot(b_grad, tl.trans(b_v), None, PRECISION)
        if CAREFUL:
            b_sum += _keep(b_p * (b_dp - b_delta[:, None]), b_kept, 0.0)
        else:
            b_sum += b_p * (b_dp - b_delta[:, None])
    return b_sum


@triton.jit
def _program(H, T, BM: tl.constexpr):
    """Return the head, the group counted through all windows, the window, and which of the group's tokens are ours."""
    # Heads of a group run side by side: they share its list.
    PARTS: tl.constexpr = GROUP // BM
    i = tl.program_id(0)
    i_g = (i // (H * PARTS)).to(tl.int64)
    return i % H, i_g, i_g // T, i // H % PARTS * BM + tl.arange(0, BM)


@triton.jit
def _weigh(b_w, b_kept, b_x, b_sum, PRECISION: tl.constexpr, CAREFUL: tl.constexpr):
    """Return b_w @ b_x + b_sum; CAREFUL: rows of b_x that are not finite make NaN of those that keep them, alone."""
    if CAREFUL:
        m_finite = tl.abs(b_x.to(tl.float32)) < INFINITY
        b_broken = tl.max(tl.where(m_finite, 0, 1), 1)
        b_reached = tl.max(tl.where(b_kept != 0, b_broken[None, :], 0), 1)
        b_sum += tl.where(b_reached != 0, float("nan"), 0.0)[:, None]
        b_x = tl.where(m_finite, b_x, 0.0).to(b_x.dtype)
    return dot(b_w.to(b_x.dtype), b_x, b_sum, PRECISION)


@triton.jit
def _is_finite(b_x):
    return tl.max(tl.where(tl.abs(b_x) < INFINITY, 0, 1)) == 0


@triton.jit
def _load_listed(p_x, o_n, s_n, D: tl.constexpr, BD: tl.constexpr, CAREFUL: tl.constexpr):
    """Load (BN, BD) rows of listed tokens; CAREFUL: columns past D are 0."""
    o_d = tl.arange(0, BD)
    p_rows = p_x + o_n[:, None] * s_n + o_d[None, :]
    if CAREFUL:
        return tl.load(p_rows, mask=(o_d < D)[None, :], other=0.0)
    else:
        return tl.load(p_rows)


@triton.jit
def _load_kept(p_words, i, BN: tl.constexpr):
    """Return (rows, BN) int32, not 0 where the row's token and the listed one keep each other.

    There is a word for 32 listed tokens and each row: the rows of the first 32 tokens, those of the next, and so on.
    """
    o_n = tl.arange(0, BN)
    if BN < 32:
        o_n += i % 32
    p_words += i // 32 * GROUP
    b_words = tl.load(p_words)[:, None]
    for j in tl.static_range(1, BN // 32):
        b_words = tl.where((o_n // 32 == j)[None, :], tl.load(p_words + j * GROUP)[:, None], b_words)
    return b_words & (1 << (o_n % 32))[None, :]


@triton.jit
def _load_row_bits(p_words, shift, m_row, words, KEYS: tl.constexpr, WORDS: tl.constexpr):
    """Return (queries, KEYS) int32, not 0 where the query keeps the key.

    The first key is bit `shift` of the words at `p_words`, one for each query; the keys reach into WORDS words, of
    which the last may lie behind the row, which has `words` more.
    """
    o_bit = shift + tl.arange(0, KEYS)
    b_words = tl.load(p_words, mask=m_row, other=0)[:, None]
    # One load per query and word, of which the keys pick theirs.
    for i in tl.static_range(1, WORDS):
        b_word = tl.load(p_words + i, mask=m_row & (i < words), other=0)
        b_words = tl.where((o_bit // 32 == i)[None, :], b_word[:, None], b_words)
    return b_words & (1 << (o_bit % 32))[None, :]


@triton.jit
def _keep(b_x, b_kept, other: tl.constexpr):
    """Return b_x where b_kept is not 0, and `other`, 0 or -inf, elsewhere."""
    if PTX:
        # ptxas would pack the predicates of a whole tile into registers, and take them apart again.
        if other == 0.0:
            return tl.inline_asm_elementwise(
                "{ .reg .pred p; setp.ne.b32 p, $2, 0; selp.f32 $0, $1, 0f00000000, p; }",
                "=f,f,r", [b_x, b_kept], dtype=tl.float32, is_pure=True, pack=1,
            )  # fmt: skip
        else:
            return tl.inline_asm_elementwise(
                "{ .reg .pred p; setp.ne.b32 p, $2, 0; selp.f32 $0, $1, 0fFF800000, p; }",
                "=f,f,r", [b_x, b_kept], dtype=tl.float32, is_pure=True, pack=1,
            )  # fmt: skip
    else:
        return tl.where(b_kept != 0, b_x, other)


@triton.jit
def _query_place(o_q, N, SIDE: tl.constexpr):
    """Return numbers of queries such that the place in the bias is this one plus that of the key."""
    return _place(o_q, SIDE) + 2 * SIDE * (SIDE - 1) if SIDE else o_q * N


@triton.jit
def _key_place(o_k, SIDE: tl.constexpr):
    return -_place(o_k, SIDE) if SIDE else o_k


@triton.jit
def _place(o_n, SIDE: tl.constexpr):
    """Return the place in a grid whose rows are as long as the table's; unsigned numbers are divided faster."""
    return o_n + (o_n.to(tl.uint32) // SIDE).to(tl.int32) * (SIDE - 1)


@triton.jit
def _load_table(p_bias, i_h, SIDE: tl.constexpr, ENTRIES: tl.constexpr):
    """Load the head's table where it is small enough to be gathered from: ENTRIES, to which it is padded, is not 0."""
    if ENTRIES:
        return tl.load(p_bias + i_h * ENTRIES + tl.arange(0, ENTRIES))
    else:
        return 0.0


@triton.jit
def _add_bias(
    b_s, p_bias, b_table, i_h, o_row, o_column, scale, N, SIDE: tl.constexpr, ENTRIES: tl.constexpr
):  # fmt: skip
    """Return scores and their factor: scaled scores plus bias, and 1; without a bias the scores, and the scale."""
    if p_bias is None:
        factor = scale * LOG2_E
    else:
        b_s = b_s * (scale * LOG2_E) + _load_bias(p_bias, b_table, i_h, o_row, o_column, N, SIDE, ENTRIES)
        factor = 1.0
    return b_s, factor


@triton.jit
def _load_bias(p_bias, b_table, i_h, o_row, o_column, N, SIDE: tl.constexpr, ENTRIES: tl.constexpr):
    o_bias = o_row[:, None] + o_column[None, :]
    if ENTRIES:
        # Through shared memory, in the layout that the scores have: scattered loads would be many times slower.
        b_bias = tl.gather(b_table, o_bias.reshape(o_bias.numel), 0).reshape(o_bias.shape)
    elif SIDE:
        b_bias = tl.load(p_bias + i_h * ((2 * SIDE - 1) * (2 * SIDE - 1)) + o_bias)
    else:
        b_bias = tl.load(p_bias + i_h.to(tl.int64) * N * N + o_bias)
    return b_bias
