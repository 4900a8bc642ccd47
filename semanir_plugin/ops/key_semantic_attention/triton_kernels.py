"""Triton kernels of key-semantic attention: tiles in the order of `tiles`, empty ones never visited.

A tile is SIZE queries by SIZE keys. A program owns one tile of rows and loops over the tiles that its list names; rows
of q, k and v are gathered by the order of the tokens, whose padding is the token N: never loaded, never stored. Scores
are in base 2: scale and bias times log2(e). A score that is masked is -inf, and its weight exactly 0.
"""

from __future__ import annotations

import triton
import triton.language as tl

from semanir_plugin.ops.triton_support import interpreted

__all__ = [
    "bias_kernel",
    "count_kernel",
    "forward_kernel",
    "keys_kernel",
    "list_kernel",
    "pack_kernel",
    "queries_kernel",
]

LOG2_E = tl.constexpr(1.4426950408889634)
INTERPRETED = tl.constexpr(interpreted())


@triton.jit
def count_kernel(p_packed, p_counts, N, W, ROWS: tl.constexpr):
    """Count the queries that chose each key: one program per word of 32 keys and window."""
    i_w, i_b = tl.program_id(0) % W, (tl.program_id(0) // W).to(tl.int64)
    o_bit = tl.arange(0, 32)
    b_counts = tl.zeros([32], dtype=tl.int32)
    for i in range(0, N, ROWS):
        o_n = i + tl.arange(0, ROWS)
        b_words = tl.load(p_packed + i_b * N * W + o_n * W + i_w, mask=o_n < N, other=0)
        b_counts += tl.sum((b_words[:, None] >> o_bit[None, :]) & 1, 0)
    o_n = i_w * 32 + o_bit
    tl.store(p_counts + i_b * N + o_n, b_counts, mask=o_n < N)


@triton.jit
def pack_kernel(p_packed, p_order, p_bits, p_filled, N, W, T, SIZE: tl.constexpr):
    """Reorder the packed mask by queries and keys, and tell which tiles have a bit: one program per tile."""
    i_k, i_q = tl.program_id(0) % T, tl.program_id(0) // T % T
    i_b = (tl.program_id(0) // (T * T)).to(tl.int64)
    p_order += i_b * 2 * T * SIZE
    o_m, o_bit = i_q * SIZE + tl.arange(0, SIZE), tl.arange(0, 32)
    o_q = tl.load(p_order + o_m)
    p_rows = p_packed + i_b * N * W + o_q * W
    p_words = p_bits + (i_b * T * SIZE + o_m) * (T * SIZE // 32) + i_k * SIZE // 32
    b_any = tl.zeros([SIZE], dtype=tl.int32)
    for i in tl.static_range(SIZE // 32):
        o_k = tl.load(p_order + T * SIZE + i_k * SIZE + i * 32 + o_bit)
        m_pair = (o_q < N)[:, None] & (o_k < N)[None, :]
        b_words = tl.load(p_rows[:, None] + (o_k // 32)[None, :], mask=m_pair, other=0)
        b_bits = (b_words >> (o_k % 32)[None, :]) & 1
        b_word = tl.sum(b_bits << o_bit[None, :], 1)
        tl.store(p_words + i, b_word)
        b_any |= b_word
    b_filled = tl.max((b_any != 0).to(tl.int32), 0)
    tl.store(p_filled + (i_b * T + i_q) * T + i_k, b_filled)


@triton.jit
def list_kernel(p_filled, p_lists, p_counts, T, BLOCK: tl.constexpr):
    """List the filled tiles of a row of tiles (even programs: keys of queries) or of a column (queries of keys)."""
    i_t, i_side = tl.program_id(0) % T, tl.program_id(0) // T % 2
    i_b = (tl.program_id(0) // (2 * T)).to(tl.int64)
    o_t = tl.arange(0, BLOCK)
    o_filled = tl.where(i_side == 0, i_t * T + o_t, o_t * T + i_t)
    b_filled = tl.load(p_filled + i_b * T * T + o_filled, mask=o_t < T, other=0)
    o_list = tl.cumsum(b_filled, 0) - 1
    i_list = (i_b * 2 + i_side) * T + i_t
    tl.store(p_lists + i_list * T + o_list, o_t, mask=b_filled != 0)
    tl.store(p_counts + i_list, tl.sum(b_filled, 0))


@triton.jit
def forward_kernel(
    p_q,
    p_k,
    p_v,
    p_bias,
    p_order,
    p_bits,
    p_lists,
    p_counts,
    p_out,
    p_lse,
    scale,
    H,
    N,
    T,
    s_qb,
    s_qh,
    s_qn,
    s_kb,
    s_kh,
    s_kn,
    s_vb,
    s_vh,
    s_vn,
    SIDE: tl.constexpr,
    ENTRIES: tl.constexpr,
    ALIGN: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    SIZE: tl.constexpr,
    STEP: tl.constexpr,
):
    """Attend: one program per head, tile of queries and window, with the softmax kept online."""
    i_h, i_t, i_b = _program(H, T)
    p_q += i_b * s_qb + i_h * s_qh
    p_k += i_b * s_kb + i_h * s_kh
    p_v += i_b * s_vb + i_h * s_vh
    p_order += i_b * 2 * T * SIZE
    i_list = i_b * 2 * T + i_t
    o_m = i_t * SIZE + tl.arange(0, SIZE)
    o_q = tl.load(p_order + o_m)
    p_words = p_bits + (i_b * T * SIZE + o_m) * (T * SIZE // 32)
    b_q = _load_rows(p_q, o_q, s_qn, N, ALIGN, D, BD)
    b_table = _load_table(p_bias, i_h, SIDE, ENTRIES)
    b_max = tl.full([SIZE], float("-inf"), dtype=tl.float32)
    b_sum = tl.zeros([SIZE], dtype=tl.float32)
    b_out = tl.zeros([SIZE, BD], dtype=tl.float32)
    for i in range(0, tl.load(p_counts + i_list) * (SIZE // STEP)):
        i_key = tl.load(p_lists + i_list * T + i // (SIZE // STEP)) * SIZE + i % (SIZE // STEP) * STEP
        o_k = tl.load(p_order + T * SIZE + i_key + tl.arange(0, STEP))
        m_kept = _load_kept(p_words + i_key // 32, i_key % 32, o_q < N, 1, 1, STEP, 1)
        b_k = _load_rows(p_k, o_k, s_kn, N, ALIGN, D, BD)
        # (SIZE, BD) @ (BD, SIZE) -> (queries, keys)
        b_s = _dot(b_q, tl.trans(b_k), None) * (scale * LOG2_E)
        b_s = _add_bias(b_s, p_bias, b_table, i_h, o_q, o_k, m_kept, N, 1, SIDE, ENTRIES, SIZE * STEP)
        b_s = tl.where(m_kept, b_s, float("-inf"))
        b_new = tl.maximum(b_max, tl.max(b_s, 1))
        # A row without a key so far has the maximum -inf, which must not be subtracted from itself.
        b_shift = tl.where(b_new == float("-inf"), 0.0, b_new)
        b_p = tl.exp2(b_s - b_shift[:, None])
        b_alpha = tl.exp2(b_max - b_shift)
        b_sum = b_sum * b_alpha + tl.sum(b_p, 1)
        b_v = _load_rows(p_v, o_k, s_vn, N, ALIGN, D, BD)
        # (SIZE, SIZE) @ (SIZE, BD) -> (queries, BD)
        b_out = _dot(b_p.to(b_v.dtype), b_v, b_out * b_alpha[:, None])
        b_max = b_new
    b_sum = tl.where(o_q < N, b_sum, 1.0)
    _store_rows(p_out + i_b * N * H * D + i_h * D, o_q, b_out / b_sum[:, None], H * D, N, ALIGN, D, BD)
    tl.store(p_lse + (i_b * H + i_h) * N + o_q, b_max + tl.log2(b_sum), mask=o_q < N)


@triton.jit
def queries_kernel(
    p_q,
    p_k,
    p_v,
    p_bias,
    p_order,
    p_bits,
    p_lists,
    p_counts,
    p_out,
    p_lse,
    p_grad,
    p_delta,
    p_dq,
    scale,
    H,
    N,
    T,
    s_qb,
    s_qh,
    s_qn,
    s_kb,
    s_kh,
    s_kn,
    s_vb,
    s_vh,
    s_vn,
    s_gb,
    s_gh,
    s_gn,
    SIDE: tl.constexpr,
    ENTRIES: tl.constexpr,
    ALIGN: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    SIZE: tl.constexpr,
    STEP: tl.constexpr,
):
    """Gradient of the queries, and delta, the sum over keys of weight times gradient: programs as in the forward."""
    i_h, i_t, i_b = _program(H, T)
    p_k += i_b * s_kb + i_h * s_kh
    p_v += i_b * s_vb + i_h * s_vh
    p_order += i_b * 2 * T * SIZE
    i_list = i_b * 2 * T + i_t
    o_m = i_t * SIZE + tl.arange(0, SIZE)
    o_q = tl.load(p_order + o_m)
    p_words = p_bits + (i_b * T * SIZE + o_m) * (T * SIZE // 32)
    o_row = (i_b * H + i_h) * N + o_q
    b_q = _load_rows(p_q + i_b * s_qb + i_h * s_qh, o_q, s_qn, N, ALIGN, D, BD)
    b_grad = _load_rows(p_grad + i_b * s_gb + i_h * s_gh, o_q, s_gn, N, ALIGN, D, BD)
    b_out = _load_rows(p_out + i_b * N * H * D + i_h * D, o_q, H * D, N, ALIGN, D, BD)
    b_lse = tl.load(p_lse + o_row, mask=o_q < N, other=0.0)
    b_delta = tl.sum(b_out.to(tl.float32) * b_grad.to(tl.float32), 1)
    tl.store(p_delta + o_row, b_delta, mask=o_q < N)
    b_table = _load_table(p_bias, i_h, SIDE, ENTRIES)
    b_dq = tl.zeros([SIZE, BD], dtype=tl.float32)
    for i in range(0, tl.load(p_counts + i_list) * (SIZE // STEP)):
        i_key = tl.load(p_lists + i_list * T + i // (SIZE // STEP)) * SIZE + i % (SIZE // STEP) * STEP
        o_k = tl.load(p_order + T * SIZE + i_key + tl.arange(0, STEP))
        m_kept = _load_kept(p_words + i_key // 32, i_key % 32, o_q < N, 1, 1, STEP, 1)
        b_k = _load_rows(p_k, o_k, s_kn, N, ALIGN, D, BD)
        b_v = _load_rows(p_v, o_k, s_vn, N, ALIGN, D, BD)
        # (SIZE, BD) @ (BD, SIZE) -> (queries, keys)
        b_s = _dot(b_q, tl.trans(b_k), None) * (scale * LOG2_E)
        b_s = _add_bias(b_s, p_bias, b_table, i_h, o_q, o_k, m_kept, N, 1, SIDE, ENTRIES, SIZE * STEP)
        b_p = tl.exp2(tl.where(m_kept, b_s, float("-inf")) - b_lse[:, None])
        # (SIZE, BD) @ (BD, SIZE) -> (queries, keys)
        b_dp = _dot(b_grad, tl.trans(b_v), None)
        b_ds = b_p * (b_dp - b_delta[:, None])
        # (SIZE, SIZE) @ (SIZE, BD) -> (queries, BD)
        b_dq = _dot(b_ds.to(b_k.dtype), b_k, b_dq)
    _store_rows(p_dq + i_b * N * H * D + i_h * D, o_q, b_dq * scale, H * D, N, ALIGN, D, BD)


@triton.jit
def keys_kernel(
    p_q,
    p_k,
    p_v,
    p_bias,
    p_order,
    p_bits,
    p_lists,
    p_counts,
    p_lse,
    p_grad,
    p_delta,
    p_dk,
    p_dv,
    scale,
    H,
    N,
    T,
    s_qb,
    s_qh,
    s_qn,
    s_kb,
    s_kh,
    s_kn,
    s_vb,
    s_vh,
    s_vn,
    s_gb,
    s_gh,
    s_gn,
    SIDE: tl.constexpr,
    ENTRIES: tl.constexpr,
    ALIGN: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    SIZE: tl.constexpr,
    STEP: tl.constexpr,
):
    """Gradients of keys and values: one program per head, tile of keys and window; scores are transposed, key first."""
    i_h, i_t, i_b = _program(H, T)
    p_q += i_b * s_qb + i_h * s_qh
    p_grad += i_b * s_gb + i_h * s_gh
    p_order += i_b * 2 * T * SIZE
    p_bits += i_b * T * SIZE * (T * SIZE // 32)
    i_list = (i_b * 2 + 1) * T + i_t
    o_k = tl.load(p_order + T * SIZE + i_t * SIZE + tl.arange(0, SIZE))
    b_k = _load_rows(p_k + i_b * s_kb + i_h * s_kh, o_k, s_kn, N, ALIGN, D, BD)
    b_v = _load_rows(p_v + i_b * s_vb + i_h * s_vh, o_k, s_vn, N, ALIGN, D, BD)
    b_table = _load_table(p_bias, i_h, SIDE, ENTRIES)
    b_dk = tl.zeros([SIZE, BD], dtype=tl.float32)
    b_dv = tl.zeros([SIZE, BD], dtype=tl.float32)
    for i in range(0, tl.load(p_counts + i_list) * (SIZE // STEP)):
        i_query = tl.load(p_lists + i_list * T + i // (SIZE // STEP)) * SIZE + i % (SIZE // STEP) * STEP
        o_m = i_query + tl.arange(0, STEP)
        o_q = tl.load(p_order + o_m)
        o_row = (i_b * H + i_h) * N + o_q
        p_words = p_bits + o_m * (T * SIZE // 32) + i_t * (SIZE // 32)
        m_kept = _load_kept(p_words, 0, o_q < N, SIZE // 32, 0, SIZE, SIZE // 32)
        b_q = _load_rows(p_q, o_q, s_qn, N, ALIGN, D, BD)
        b_grad = _load_rows(p_grad, o_q, s_gn, N, ALIGN, D, BD)
        b_lse = tl.load(p_lse + o_row, mask=o_q < N, other=0.0)
        b_delta = tl.load(p_delta + o_row, mask=o_q < N, other=0.0)
        # (SIZE, BD) @ (BD, SIZE) -> (keys, queries)
        b_s = _dot(b_k, tl.trans(b_q), None) * (scale * LOG2_E)
        b_s = _add_bias(b_s, p_bias, b_table, i_h, o_q, o_k, m_kept, N, 0, SIDE, ENTRIES, SIZE * STEP)
        b_p = tl.exp2(tl.where(m_kept, b_s, float("-inf")) - b_lse[None, :])
        # (SIZE, SIZE) @ (SIZE, BD) -> (keys, BD)
        b_dv = _dot(b_p.to(b_grad.dtype), b_grad, b_dv)
        # (SIZE, BD) @ (BD, SIZE) -> (keys, queries)
        b_dp = _dot(b_v, tl.trans(b_grad), None)
        b_ds = b_p * (b_dp - b_delta[None, :])
        # (SIZE, SIZE) @ (SIZE, BD) -> (keys, BD)
        b_dk = _dot(b_ds.to(b_q.dtype), b_q, b_dk)
    _store_rows(p_dk + i_b * N * H * D + i_h * D, o_k, b_dk * scale, H * D, N, ALIGN, D, BD)
    _store_rows(p_dv + i_b * N * H * D + i_h * D, o_k, b_dv, H * D, N, ALIGN, D, BD)


@triton.jit
def bias_kernel(
    p_q,
    p_k,
    p_v,
    p_bias,
    p_packed,
    p_lse,
    p_grad,
    p_delta,
    p_parts,
    scale,
    B,
    H,
    N,
    W,
    T,
    SPLITS,
    s_qb,
    s_qh,
    s_qn,
    s_kb,
    s_kh,
    s_kn,
    s_vb,
    s_vh,
    s_vn,
    s_gb,
    s_gh,
    s_gn,
    SIDE: tl.constexpr,
    ALIGN: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradient of the bias, summed over windows inside one program: no atomics, always in the same order.

    Tokens stand in their own order. Dense: one program per head, pair of tiles of COLUMNS tokens, and part of the
    windows. Table: a tile is ROWS x COLUMNS tokens of the window, and pairs of tiles that are equally far apart share
    their entries: one program per head, distance in rows, pair of columns of tiles, and part of the windows.
    """
    i_h, i_part, i_task = tl.program_id(0) % H, tl.program_id(0) // H % SPLITS, tl.program_id(0) // (H * SPLITS)
    i_plane = (i_part * H + i_h).to(tl.int64)
    o_t = tl.arange(0, SIZE)
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
        p_bias += i_h * ((2 * SIDE - 1) * (2 * SIDE - 1))
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
    # One patch of the bias serves the whole program.
    b_bias = tl.load(p_bias + o_bias, mask=m_bias, other=0.0).to(tl.float32) * LOG2_E
    b_sum = tl.zeros([SIZE, SIZE], dtype=tl.float32)
    length = tl.cdiv(B * pairs, SPLITS)
    for i in range(i_part * length, tl.minimum((i_part + 1) * length, B * pairs)):
        i_b = (i // pairs).to(tl.int64)
        # Dense: zero, but the compiler cannot know, and does not keep the addresses of all rows in registers.
        i_start = (i_first + i % pairs) * (ROWS * SIDE) if SIDE else i // B * SIZE
        o_q = tl.where(m_q, tl.minimum(i_start + i_query + o_t, N), N)
        o_k = tl.where(m_k, tl.minimum(i_start + i_key + o_t, N), N)
        o_row = (i_b * H + i_h) * N + o_q
        b_q = _load_rows(p_q + i_b * s_qb + i_h * s_qh, o_q, s_qn, N, ALIGN, D, BD)
        b_k = _load_rows(p_k + i_b * s_kb + i_h * s_kh, o_k, s_kn, N, ALIGN, D, BD)
        b_v = _load_rows(p_v + i_b * s_vb + i_h * s_vh, o_k, s_vn, N, ALIGN, D, BD)
        b_grad = _load_rows(p_grad + i_b * s_gb + i_h * s_gh, o_q, s_gn, N, ALIGN, D, BD)
        b_lse = tl.load(p_lse + o_row, mask=o_q < N, other=0.0)
        b_delta = tl.load(p_delta + o_row, mask=o_q < N, other=0.0)
        i_word = (i_start + i_key) // 32
        p_words = p_packed + (i_b * N + o_q) * W + i_word
        if (ROWS * SIDE) % 32 == 0 and (COLUMNS % 32 == 0 or SIDE <= COLUMNS):
            m_kept = _load_kept(p_words, 0, o_q < N, W - i_word, 1, SIZE, SIZE // 32)
        else:
            shift = (i_start + i_key) % 32
            m_kept = _load_kept(p_words, shift, o_q < N, W - i_word, 1, SIZE, SIZE // 32 + 1)
        m_kept = m_kept & (o_k < N)[None, :]
        # (SIZE, BD) @ (BD, SIZE) -> (queries, keys)
        b_s = _dot(b_q, tl.trans(b_k), None) * (scale * LOG2_E) + b_bias
        b_p = tl.exp2(tl.where(m_kept, b_s, float("-inf")) - b_lse[:, None])
        # (SIZE, BD) @ (BD, SIZE) -> (queries, keys)
        b_dp = _dot(b_grad, tl.trans(b_v), None)
        b_sum += b_p * (b_dp - b_delta[:, None])
    # Whole tiles: the places in the bias would fill registers all the way.
    p_tile = p_parts + (i_plane * (tl.num_programs(0) // (H * SPLITS)) + i_task) * SIZE * SIZE
    tl.store(p_tile + o_t[:, None] * SIZE + o_t[None, :], b_sum)


@triton.jit
def _program(H, T):
    # Heads of a tile run side by side: they share the mask, and the cache lines of packed q, k and v.
    i = tl.program_id(0)
    return i % H, i // H % T, (i // (H * T)).to(tl.int64)


@triton.jit
def _dot(b_x, b_y, b_sum):
    """Return b_x @ b_y + b_sum in fp32; of fp32 factors without TF32."""
    if INTERPRETED:  # it would multiply the bits of bf16 numbers
        b_x, b_y = b_x.to(tl.float32), b_y.to(tl.float32)
    return tl.dot(b_x, b_y, b_sum, input_precision="ieee")


@triton.jit
def _load_rows(p_x, o_n, s_n, N, ALIGN: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """Load (SIZE, BD) rows; those of padding, and columns past D, are 0. Rows begin at multiples of ALIGN bytes."""
    o_d = tl.arange(0, BD)
    p_rows = tl.multiple_of(p_x + o_n[:, None] * s_n + o_d[None, :], (1, ALIGN))
    return tl.load(p_rows, mask=(o_n < N)[:, None] & (o_d < D)[None, :], other=0.0)


@triton.jit
def _store_rows(p_x, o_n, b_x, s_n, N, ALIGN: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    o_d = tl.arange(0, BD)
    p_rows = tl.multiple_of(p_x + o_n[:, None] * s_n + o_d[None, :], (1, ALIGN))
    tl.store(p_rows, b_x.to(p_x.dtype.element_ty), mask=(o_n < N)[:, None] & (o_d < D)[None, :])


@triton.jit
def _load_kept(p_words, shift, m_row, words, AXIS: tl.constexpr, KEYS: tl.constexpr, WORDS: tl.constexpr):
    """Tell which of KEYS keys each query keeps: (queries, keys) for AXIS 1, (keys, queries) for AXIS 0.

    The first key is bit `shift` of the words at `p_words`, one for each query; the keys reach into WORDS words, of
    which the last may lie behind the row, which has `words` more.
    """
    o_bit = tl.expand_dims(shift + tl.arange(0, KEYS), 1 - AXIS)
    b_words = tl.expand_dims(tl.load(p_words, mask=m_row, other=0), AXIS)
    # One load per query and word, of which the keys pick theirs.
    for i in tl.static_range(1, WORDS):
        b_word = tl.load(p_words + i, mask=m_row & (i < words), other=0)
        b_words = tl.where(o_bit // 32 == i, tl.expand_dims(b_word, AXIS), b_words)
    return ((b_words >> (o_bit % 32)) & 1) != 0


@triton.jit
def _load_table(p_bias, i_h, SIDE: tl.constexpr, ENTRIES: tl.constexpr):
    """Load the head's table, in base 2, where it is small enough to be gathered from: ENTRIES is not 0."""
    if ENTRIES:
        o_entry = tl.arange(0, ENTRIES)
        m_entry = o_entry < (2 * SIDE - 1) * (2 * SIDE - 1)
        p_head = p_bias + i_h * ((2 * SIDE - 1) * (2 * SIDE - 1))
        b_table = tl.load(p_head + o_entry, mask=m_entry, other=0.0).to(tl.float32) * LOG2_E
    else:
        b_table = 0.0
    return b_table


@triton.jit
def _add_bias(
    b_s,
    p_bias,
    b_table,
    i_h,
    o_q,
    o_k,
    m_kept,
    N,
    AXIS: tl.constexpr,
    SIDE: tl.constexpr,
    ENTRIES: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """Add the bias to scores laid out as `_load_kept` says: from the loaded table, else from memory."""
    if p_bias is not None:
        # Padding reads the last token's bias, and is masked as any pair that is not kept.
        o_q, o_k = tl.minimum(o_q, N - 1), tl.minimum(o_k, N - 1)
        if SIDE:
            # The entry of a pair is a number of the query minus a number of the key.
            o_row = (o_q // SIDE) * (2 * SIDE - 1) + o_q % SIDE + 2 * SIDE * (SIDE - 1)
            o_column = -((o_k // SIDE) * (2 * SIDE - 1) + o_k % SIDE)
            p_head = p_bias + i_h * ((2 * SIDE - 1) * (2 * SIDE - 1))
        else:
            o_row, o_column = o_q * N, o_k
            p_head = p_bias + i_h.to(tl.int64) * N * N
        o_bias = tl.expand_dims(o_row, AXIS) + tl.expand_dims(o_column, 1 - AXIS)
        if ENTRIES:
            # Through shared memory, in the layout that the scores have: scattered loads would be many times slower.
            b_s += tl.gather(b_table, o_bias.reshape(PAIRS), 0).reshape(b_s.shape)
        else:
            b_s += tl.load(p_head + o_bias, mask=m_kept, other=0.0).to(tl.float32) * LOG2_E
    return b_s
