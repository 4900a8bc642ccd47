"""Triton kernels of adaptive sparse attention, in two kinds.

Windows of at most one tile: a program goes through many windows of one head and keeps the head's bias, and in the
backward the bias's gradient, in registers; every score is made once. Larger windows: a program has one tile of queries,
of keys or of the bias, and goes through what it meets, with an online softmax in the forward.

q, k, v and the gradient of the output have any strides but for adjacent elements of a row; what is written is laid out
(B, N, H, D). Scores of keys past N are -inf; rows past N are zeros and give zeros. No kernel uses atomics.
"""

from __future__ import annotations

import triton
import triton.language as tl

from semanir_plugin.ops.common.triton_kernels import dot, load_rows, store_rows

__all__ = [
    "adaptive_sparse_attention_tiled_bwd_bias_kernel",
    "adaptive_sparse_attention_tiled_bwd_kv_kernel",
    "adaptive_sparse_attention_tiled_bwd_q_kernel",
    "adaptive_sparse_attention_tiled_fwd_kernel",
    "adaptive_sparse_attention_window_bwd_kernel",
    "adaptive_sparse_attention_window_fwd_kernel",
]

# What scores across regions are lowered by.
PENALTY = tl.constexpr(100.0)
# Half of what fp16 holds, and then some.
FP16_SAFE = tl.constexpr(32768.0)

# Sizes that would compile a kernel anew where they are 1 or multiples of 16, for nothing.
COUNTS = ["H", "B", "R", "SHARE"]


@triton.jit
def _rows_of_tile(i_tile, i_b, B, BN: tl.constexpr):
    """Return the rows of a tile, in a loop over windows.

    They do not change from window to window, as i_b < B; but if the compiler knew, it would keep the addresses of all
    that is loaded and stored in registers.
    """
    return (i_tile + i_b // B) * BN + tl.arange(0, BN)


@triton.jit
def _load_rows(p_x, i_b, i_h, o_n, o_d, s_b, s_h, s_n, N, D):
    """Load (rows, D) of one window and head; zeros past N and D."""
    p_head = p_x + tl.cast(i_b, tl.int64) * s_b + tl.cast(i_h, tl.int64) * s_h
    return load_rows(p_head, o_n, s_n, N, D, o_d.shape[0])


@triton.jit
def _store_rows(p_x, b_x, i_b, i_h, o_n, o_d, H, N, D):
    """Store (rows, D) of one window and head, laid out (B, N, H, D)."""
    p_head = p_x + tl.cast(i_b, tl.int64) * N * H * D + i_h * D
    store_rows(p_head, o_n, b_x, H * D, N, D, o_d.shape[0])


@triton.jit
def _load_vector(p_x, i_b, i_h, o_n, H, N):
    """Load (rows,) of one window and head of a (B, H, N) tensor; zeros past N."""
    return tl.load(p_x + (tl.cast(i_b, tl.int64) * H + i_h) * N + o_n, mask=o_n < N, other=0.0)


@triton.jit
def _store_vector(p_x, b_x, i_b, i_h, o_n, H, N):
    """Store (rows,) of one window and head of a (B, H, N) tensor, the counterpart of `_load_vector`."""
    tl.store(p_x + (tl.cast(i_b, tl.int64) * H + i_h) * N + o_n, b_x, mask=o_n < N)


@triton.jit
def _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS: tl.constexpr):
    """Load the (rows,) labels of one window; any rows where there are no regions."""
    if HAS_REGIONS:
        return tl.load(p_regions + (i_b % R) * N + o_n, mask=o_n < N, other=0)
    else:
        return o_n


@triton.jit
def _load_bias(p_bias, i_h, o_m, o_n, N, HAS_BIAS: tl.constexpr):
    """Load the (queries, keys) bias of a head, zeros where there is none; -inf past the last key."""
    m_keys = (o_n < N)[None, :]
    if HAS_BIAS:
        p_tile = p_bias + tl.cast(i_h, tl.int64) * N * N + o_m[:, None] * N + o_n[None, :]
        b_bias = tl.load(p_tile, mask=(o_m < N)[:, None] & m_keys, other=0.0)
    else:
        b_bias = tl.zeros((o_m.shape[0], o_n.shape[0]), tl.float32)
    return tl.where(m_keys, b_bias, float("-inf"))


@triton.jit
def _fit(b_w, b_x, b_bound):
    """Return fp32 weights of at most `b_bound` in the dtype of the rows b_x, and the factor that undoes the scaling.

    Squared scores and their gradients outgrow fp16, which ends at 65504, the square of 256: beside fp16 rows, weights
    that may come near it are scaled down. The bound is one number or, for factors from the left, (rows, 1).
    """
    if b_x.dtype == tl.float16:
        b_shrink = tl.minimum(1 / b_bound * FP16_SAFE, 1.0)
        return (b_w * b_shrink).to(tl.float16), 1 / b_shrink
    else:
        return b_w.to(b_x.dtype), 1.0


@triton.jit
def _weigh(b_w, b_x, b_bound, PRECISION: tl.constexpr):
    """Return b_w @ b_x for fp32 weights of at most `b_bound`, see `_fit`."""
    b_w, b_factor = _fit(b_w, b_x, b_bound)
    # (M, K) @ (K, D)
    return dot(b_w, b_x, None, PRECISION) * b_factor


@triton.jit
def _bound_mixed(b_lse, dense_share, sparse_share):
    """Bound the weights of the values: no score exceeds the log-sum-exp of its row."""
    largest = tl.maximum(tl.max(b_lse, 0), 0.0)
    return tl.abs(dense_share) + tl.abs(sparse_share) * largest * largest


@triton.jit
def _bound_ds(b_lse, b_dmixed, dense_share, sparse_share):
    """Bound the gradients of the scores, whose delta is a mean of b_dmixed."""
    largest = tl.maximum(tl.max(b_lse, 0), 0.0)
    return 2 * tl.max(tl.abs(b_dmixed)) * (tl.abs(dense_share) + tl.abs(sparse_share) * largest)


@triton.jit
def _scores(b_q, b_k, b_bias, b_label_q, b_label_k, scale, HAS_REGIONS: tl.constexpr, PRECISION: tl.constexpr):
    """Return the (queries, keys) scores in fp32."""
    # (queries, D) @ (D, keys)
    b_s = dot(b_q, tl.trans(b_k), None, PRECISION) * scale + b_bias
    if HAS_REGIONS:
        b_s = tl.where(b_label_q[:, None] == b_label_k[None, :], b_s, b_s - PENALTY)
    return b_s


@triton.jit(do_not_specialize=COUNTS)
def adaptive_sparse_attention_window_fwd_kernel(
    p_q,
    p_k,
    p_v,
    p_weights,
    p_bias,
    p_regions,
    p_out,
    p_lse,
    s_qb,
    s_qh,
    s_qn,
    s_kb,
    s_kh,
    s_kn,
    s_vb,
    s_vh,
    s_vn,
    B,
    H,
    R,
    N,
    D,
    SHARE,
    scale,
    BN: tl.constexpr,
    BD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_REGIONS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Output and log-sum-exp of SHARE windows of one head; programs: (H, ceil(B / SHARE))."""
    i_h, i_share = tl.program_id(0), tl.program_id(1)
    o_bias, o_d = tl.arange(0, BN), tl.arange(0, BD)
    dense_share, sparse_share = tl.load(p_weights), tl.load(p_weights + 1)
    b_bias = _load_bias(p_bias, i_h, o_bias, o_bias, N, HAS_BIAS)
    for i_b in range(i_share * SHARE, tl.minimum((i_share + 1) * SHARE, B)):
        o_n = _rows_of_tile(0, i_b, B, BN)
        b_q = _load_rows(p_q, i_b, i_h, o_n, o_d, s_qb, s_qh, s_qn, N, D)
        b_k = _load_rows(p_k, i_b, i_h, o_n, o_d, s_kb, s_kh, s_kn, N, D)
        b_v = _load_rows(p_v, i_b, i_h, o_n, o_d, s_vb, s_vh, s_vn, N, D)
        b_label = _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS)
        b_s = _scores(b_q, b_k, b_bias, b_label, b_label, scale, HAS_REGIONS, PRECISION)
        b_max = tl.max(b_s, 1)
        b_max = tl.where(b_max == float("-inf"), 0.0, b_max)
        b_dense = tl.exp(b_s - b_max[:, None])
        b_sum = tl.sum(b_dense, 1)
        b_root = tl.maximum(b_s, 0.0)
        b_mixed = b_dense * (dense_share / b_sum)[:, None] + sparse_share * b_root * b_root
        b_bound = tl.abs(dense_share) + tl.abs(sparse_share) * tl.maximum(b_max, 0.0) * tl.maximum(b_max, 0.0)
        _store_rows(p_out, _weigh(b_mixed, b_v, b_bound[:, None], PRECISION), i_b, i_h, o_n, o_d, H, N, D)
        _store_vector(p_lse, b_max + tl.log(b_sum), i_b, i_h, o_n, H, N)


@triton.jit(do_not_specialize=COUNTS)
def adaptive_sparse_attention_window_bwd_kernel(
    p_q,
    p_k,
    p_v,
    p_grad,
    p_weights,
    p_bias,
    p_regions,
    p_lse,
    p_dq,
    p_dk,
    p_dv,
    p_dweights,
    p_dbias,
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
    B,
    H,
    R,
    N,
    D,
    SHARE,
    scale,
    BN: tl.constexpr,
    BD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_REGIONS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All gradients of SHARE windows of one head; programs: (H, ceil(B / SHARE)).

    Each program writes its part of the gradients of the weights, (programs, H, 2), and of the bias,
    (programs, H, N, N), which the launcher adds up.
    """
    i_h, i_share = tl.program_id(0), tl.program_id(1)
    o_bias, o_d = tl.arange(0, BN), tl.arange(0, BD)
    dense_share, sparse_share = tl.load(p_weights), tl.load(p_weights + 1)
    b_dbias = tl.zeros((BN, BN), tl.float32)
    b_dweight_dense, b_dweight_sparse = tl.zeros((BN,), tl.float32), tl.zeros((BN,), tl.float32)
    for i_b in range(i_share * SHARE, tl.minimum((i_share + 1) * SHARE, B)):
        o_n = _rows_of_tile(0, i_b, B, BN)
        b_q = _load_rows(p_q, i_b, i_h, o_n, o_d, s_qb, s_qh, s_qn, N, D)
        b_k = _load_rows(p_k, i_b, i_h, o_n, o_d, s_kb, s_kh, s_kn, N, D)
        b_v = _load_rows(p_v, i_b, i_h, o_n, o_d, s_vb, s_vh, s_vn, N, D)
        b_g = _load_rows(p_grad, i_b, i_h, o_n, o_d, s_gb, s_gh, s_gn, N, D)
        b_lse = _load_vector(p_lse, i_b, i_h, o_n, H, N)
        b_label = _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS)
        b_bias = _load_bias(p_bias, i_h, o_n, o_n, N, HAS_BIAS)
        b_s = _scores(b_q, b_k, b_bias, b_label, b_label, scale, HAS_REGIONS, PRECISION)
        # (queries, D) @ (D, keys)
        b_dmixed = dot(b_g, tl.trans(b_v), None, PRECISION)
        b_dense = tl.exp(b_s - b_lse[:, None])
        b_root = tl.maximum(b_s, 0.0)
        b_delta = tl.sum(b_dense * b_dmixed, 1)
        b_dweight_dense += b_delta
        b_dweight_sparse += tl.sum(b_root * b_root * b_dmixed, 1)
        b_dense *= dense_share
        b_mixed = b_dense + sparse_share * b_root * b_root
        b_mixed, b_mixed_factor = _fit(b_mixed, b_g, _bound_mixed(b_lse, dense_share, sparse_share))
        b_ds = b_dense * (b_dmixed - b_delta[:, None]) + 2 * sparse_share * b_root * b_dmixed
        b_dbias += b_ds
        b_ds, b_ds_factor = _fit(b_ds, b_k, _bound_ds(b_lse, b_dmixed, dense_share, sparse_share))
        # (keys, queries) @ (queries, D)
        b_dv = dot(tl.trans(b_mixed), b_g, None, PRECISION) * b_mixed_factor
        _store_rows(p_dv, b_dv, i_b, i_h, o_n, o_d, H, N, D)
        # (queries, keys) @ (keys, D)
        b_dq = dot(b_ds, b_k, None, PRECISION) * (scale * b_ds_factor)
        _store_rows(p_dq, b_dq, i_b, i_h, o_n, o_d, H, N, D)
        # (keys, queries) @ (queries, D)
        b_dk = dot(tl.trans(b_ds), b_q, None, PRECISION) * (scale * b_ds_factor)
        _store_rows(p_dk, b_dk, i_b, i_h, o_n, o_d, H, N, D)
    i_part = i_share * H + i_h
    tl.store(p_dweights + 2 * i_part, tl.sum(b_dweight_dense, 0))
    tl.store(p_dweights + 2 * i_part + 1, tl.sum(b_dweight_sparse, 0))
    if HAS_BIAS:
        p_tile = p_dbias + tl.cast(i_part, tl.int64) * N * N + o_bias[:, None] * N + o_bias[None, :]
        tl.store(p_tile, b_dbias, mask=(o_bias < N)[:, None] & (o_bias < N)[None, :])


@triton.jit(do_not_specialize=COUNTS)
def adaptive_sparse_attention_tiled_fwd_kernel(
    p_q,
    p_k,
    p_v,
    p_weights,
    p_bias,
    p_regions,
    p_out,
    p_lse,
    s_qb,
    s_qh,
    s_qn,
    s_kb,
    s_kh,
    s_kn,
    s_vb,
    s_vh,
    s_vn,
    H,
    R,
    N,
    D,
    scale,
    BN: tl.constexpr,
    BD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_REGIONS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Output and log-sum-exp of one tile of queries; programs: (ceil(N / BN) * H * B,)."""
    i_tile, i_h, i_b = _place(H, N, BN)
    o_m, o_d = i_tile * BN + tl.arange(0, BN), tl.arange(0, BD)
    b_q = _load_rows(p_q, i_b, i_h, o_m, o_d, s_qb, s_qh, s_qn, N, D)
    b_label_q = _load_labels(p_regions, i_b, o_m, R, N, HAS_REGIONS)
    b_max = tl.full((BN,), float("-inf"), tl.float32)
    b_base, b_sum = tl.zeros((BN,), tl.float32), tl.zeros((BN,), tl.float32)
    b_dense_out = tl.zeros((BN, BD), tl.float32)
    b_sparse_out = tl.zeros((BN, BD), tl.float32)
    for start in range(0, N, BN):
        o_n = start + tl.arange(0, BN)
        b_k = _load_rows(p_k, i_b, i_h, o_n, o_d, s_kb, s_kh, s_kn, N, D)
        b_v = _load_rows(p_v, i_b, i_h, o_n, o_d, s_vb, s_vh, s_vn, N, D)
        b_bias = _load_bias(p_bias, i_h, o_m, o_n, N, HAS_BIAS)
        b_label_k = _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS)
        b_s = _scores(b_q, b_k, b_bias, b_label_q, b_label_k, scale, HAS_REGIONS, PRECISION)
        b_new = tl.maximum(b_max, tl.max(b_s, 1))
        # A row of -inf alone has no largest score to subtract: any number does.
        b_base = tl.where(b_new == float("-inf"), 0.0, b_new)
        b_shrink = tl.exp(b_max - b_base)
        b_dense = tl.exp(b_s - b_base[:, None])
        b_sum = b_sum * b_shrink + tl.sum(b_dense, 1)
        b_dense_out = b_dense_out * b_shrink[:, None] + _weigh(b_dense, b_v, 1.0, PRECISION)
        b_root = tl.maximum(b_s, 0.0)
        b_bound = tl.maximum(b_new, 0.0) * tl.maximum(b_new, 0.0)
        b_sparse_out += _weigh(b_root * b_root, b_v, b_bound[:, None], PRECISION)
        b_max = b_new
    dense_share, sparse_share = tl.load(p_weights), tl.load(p_weights + 1)
    b_out = b_dense_out * (dense_share / b_sum)[:, None] + sparse_share * b_sparse_out
    _store_rows(p_out, b_out, i_b, i_h, o_m, o_d, H, N, D)
    _store_vector(p_lse, b_base + tl.log(b_sum), i_b, i_h, o_m, H, N)


@triton.jit(do_not_specialize=COUNTS)
def adaptive_sparse_attention_tiled_bwd_q_kernel(
    p_q,
    p_k,
    p_v,
    p_grad,
    p_weights,
    p_bias,
    p_regions,
    p_lse,
    p_dq,
    p_delta,
    p_dweights,
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
    H,
    R,
    N,
    D,
    scale,
    BN: tl.constexpr,
    BD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_REGIONS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of one tile of queries; programs: (ceil(N / BN) * H * B,).

    Goes through the keys twice, first for delta, (B, H, N), the mean gradient of the softmax's weights, which the other
    backward kernels take from here. Each program writes its part of the gradients of the weights, (programs, 2).
    """
    i_tile, i_h, i_b = _place(H, N, BN)
    o_m, o_d = i_tile * BN + tl.arange(0, BN), tl.arange(0, BD)
    dense_share, sparse_share = tl.load(p_weights), tl.load(p_weights + 1)
    b_q = _load_rows(p_q, i_b, i_h, o_m, o_d, s_qb, s_qh, s_qn, N, D)
    b_g = _load_rows(p_grad, i_b, i_h, o_m, o_d, s_gb, s_gh, s_gn, N, D)
    b_lse = _load_vector(p_lse, i_b, i_h, o_m, H, N)
    b_label_q = _load_labels(p_regions, i_b, o_m, R, N, HAS_REGIONS)
    b_delta, b_dweight_sparse = tl.zeros((BN,), tl.float32), tl.zeros((BN,), tl.float32)
    for start in range(0, N, BN):
        o_n = start + tl.arange(0, BN)
        b_k = _load_rows(p_k, i_b, i_h, o_n, o_d, s_kb, s_kh, s_kn, N, D)
        b_v = _load_rows(p_v, i_b, i_h, o_n, o_d, s_vb, s_vh, s_vn, N, D)
        b_bias = _load_bias(p_bias, i_h, o_m, o_n, N, HAS_BIAS)
        b_label_k = _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS)
        b_s = _scores(b_q, b_k, b_bias, b_label_q, b_label_k, scale, HAS_REGIONS, PRECISION)
        # (queries, D) @ (D, keys)
        b_dmixed = dot(b_g, tl.trans(b_v), None, PRECISION)
        b_root = tl.maximum(b_s, 0.0)
        b_delta += tl.sum(tl.exp(b_s - b_lse[:, None]) * b_dmixed, 1)
        b_dweight_sparse += tl.sum(b_root * b_root * b_dmixed, 1)
    b_dq = tl.zeros((BN, BD), tl.float32)
    for start in range(0, N, BN):
        o_n = start + tl.arange(0, BN)
        b_k = _load_rows(p_k, i_b, i_h, o_n, o_d, s_kb, s_kh, s_kn, N, D)
        b_v = _load_rows(p_v, i_b, i_h, o_n, o_d, s_vb, s_vh, s_vn, N, D)
        b_bias = _load_bias(p_bias, i_h, o_m, o_n, N, HAS_BIAS)
        b_label_k = _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS)
        b_s = _scores(b_q, b_k, b_bias, b_label_q, b_label_k, scale, HAS_REGIONS, PRECISION)
        # (queries, D) @ (D, keys)
        b_dmixed = dot(b_g, tl.trans(b_v), None, PRECISION)
        b_ds = _dscores(b_s, b_dmixed, b_lse, b_delta, dense_share, sparse_share)
        b_dq += _weigh(b_ds, b_k, _bound_ds(b_lse, b_dmixed, dense_share, sparse_share), PRECISION)
    _store_rows(p_dq, b_dq * scale, i_b, i_h, o_m, o_d, H, N, D)
    _store_vector(p_delta, b_delta, i_b, i_h, o_m, H, N)
    tl.store(p_dweights + 2 * tl.program_id(0), tl.sum(b_delta, 0))
    tl.store(p_dweights + 2 * tl.program_id(0) + 1, tl.sum(b_dweight_sparse, 0))


@triton.jit(do_not_specialize=COUNTS)
def adaptive_sparse_attention_tiled_bwd_kv_kernel(
    p_q,
    p_k,
    p_v,
    p_grad,
    p_weights,
    p_bias,
    p_regions,
    p_lse,
    p_delta,
    p_dk,
    p_dv,
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
    H,
    R,
    N,
    D,
    scale,
    BN: tl.constexpr,
    BD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_REGIONS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of one tile of keys and values; programs: (ceil(N / BN) * H * B,)."""
    i_tile, i_h, i_b = _place(H, N, BN)
    o_n, o_d = i_tile * BN + tl.arange(0, BN), tl.arange(0, BD)
    dense_share, sparse_share = tl.load(p_weights), tl.load(p_weights + 1)
    b_k = _load_rows(p_k, i_b, i_h, o_n, o_d, s_kb, s_kh, s_kn, N, D)
    b_v = _load_rows(p_v, i_b, i_h, o_n, o_d, s_vb, s_vh, s_vn, N, D)
    b_label_k = _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS)
    b_dk, b_dv = tl.zeros((BN, BD), tl.float32), tl.zeros((BN, BD), tl.float32)
    for start in range(0, N, BN):
        o_m = start + tl.arange(0, BN)
        b_q = _load_rows(p_q, i_b, i_h, o_m, o_d, s_qb, s_qh, s_qn, N, D)
        b_g = _load_rows(p_grad, i_b, i_h, o_m, o_d, s_gb, s_gh, s_gn, N, D)
        b_lse, b_delta = _load_vector(p_lse, i_b, i_h, o_m, H, N), _load_vector(p_delta, i_b, i_h, o_m, H, N)
        b_bias = _load_bias(p_bias, i_h, o_m, o_n, N, HAS_BIAS)
        b_label_q = _load_labels(p_regions, i_b, o_m, R, N, HAS_REGIONS)
        b_s = _scores(b_q, b_k, b_bias, b_label_q, b_label_k, scale, HAS_REGIONS, PRECISION)
        b_root = tl.maximum(b_s, 0.0)
        b_mixed = dense_share * tl.exp(b_s - b_lse[:, None]) + sparse_share * b_root * b_root
        b_dv += _weigh(tl.trans(b_mixed), b_g, _bound_mixed(b_lse, dense_share, sparse_share), PRECISION)
        # (queries, D) @ (D, keys)
        b_dmixed = dot(b_g, tl.trans(b_v), None, PRECISION)
        b_ds = _dscores(b_s, b_dmixed, b_lse, b_delta, dense_share, sparse_share)
        b_dk += _weigh(tl.trans(b_ds), b_q, _bound_ds(b_lse, b_dmixed, dense_share, sparse_share), PRECISION)
    _store_rows(p_dk, b_dk * scale, i_b, i_h, o_n, o_d, H, N, D)
    _store_rows(p_dv, b_dv, i_b, i_h, o_n, o_d, H, N, D)


@triton.jit(do_not_specialize=COUNTS)
def adaptive_sparse_attention_tiled_bwd_bias_kernel(
    p_q,
    p_k,
    p_v,
    p_grad,
    p_weights,
    p_bias,
    p_regions,
    p_lse,
    p_delta,
    p_dbias,
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
    B,
    H,
    R,
    N,
    D,
    SHARE,
    scale,
    BN: tl.constexpr,
    BD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_REGIONS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of one tile of the bias over SHARE windows; programs: (tiles, H, ceil(B / SHARE)).

    Each share of the windows has its part, (shares, H, N, N), which the launcher adds up.
    """
    i_tile, i_h, i_share = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    i_m, i_n = i_tile // tl.cdiv(N, BN), i_tile % tl.cdiv(N, BN)
    o_row, o_column = i_m * BN + tl.arange(0, BN), i_n * BN + tl.arange(0, BN)
    o_d = tl.arange(0, BD)
    dense_share, sparse_share = tl.load(p_weights), tl.load(p_weights + 1)
    b_bias = _load_bias(p_bias, i_h, o_row, o_column, N, HAS_BIAS)
    b_dbias = tl.zeros((BN, BN), tl.float32)
    for i_b in range(i_share * SHARE, tl.minimum((i_share + 1) * SHARE, B)):
        o_m, o_n = _rows_of_tile(i_m, i_b, B, BN), _rows_of_tile(i_n, i_b, B, BN)
        b_q = _load_rows(p_q, i_b, i_h, o_m, o_d, s_qb, s_qh, s_qn, N, D)
        b_k = _load_rows(p_k, i_b, i_h, o_n, o_d, s_kb, s_kh, s_kn, N, D)
        b_v = _load_rows(p_v, i_b, i_h, o_n, o_d, s_vb, s_vh, s_vn, N, D)
        b_g = _load_rows(p_grad, i_b, i_h, o_m, o_d, s_gb, s_gh, s_gn, N, D)
        b_lse, b_delta = _load_vector(p_lse, i_b, i_h, o_m, H, N), _load_vector(p_delta, i_b, i_h, o_m, H, N)
        b_label_q = _load_labels(p_regions, i_b, o_m, R, N, HAS_REGIONS)
        b_label_k = _load_labels(p_regions, i_b, o_n, R, N, HAS_REGIONS)
        b_s = _scores(b_q, b_k, b_bias, b_label_q, b_label_k, scale, HAS_REGIONS, PRECISION)
        # (queries, D) @ (D, keys)
        b_dmixed = dot(b_g, tl.trans(b_v), None, PRECISION)
        b_dbias += _dscores(b_s, b_dmixed, b_lse, b_delta, dense_share, sparse_share)
    p_tile = p_dbias + (tl.cast(i_share, tl.int64) * H + i_h) * N * N + o_row[:, None] * N + o_column[None, :]
    tl.store(p_tile, b_dbias, mask=(o_row < N)[:, None] & (o_column < N)[None, :])


@triton.jit
def _place(H, N, BN: tl.constexpr):
    """Return the tile, the head and the window of a program."""
    tiles = tl.cdiv(N, BN)
    i_program = tl.program_id(0)
    return i_program % tiles, i_program // tiles % H, i_program // tiles // H


@triton.jit
def _dscores(b_s, b_dmixed, b_lse, b_delta, dense_share, sparse_share):
    """Return the gradient of the (queries, keys) scores."""
    b_dense = tl.exp(b_s - b_lse[:, None])
    return dense_share * b_dense * (b_dmixed - b_delta[:, None]) + 2 * sparse_share * tl.maximum(b_s, 0.0) * b_dmixed
