"""Triton kernels that list, for each group of tokens, all tokens paired with any of them, and the bits of the pairs.

They read a packed mask, (B, N, W): bit j % 32 of word j // 32 of row i says that token i is paired with j.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "GROUP",
    "key_semantic_attention_list_kernel",
    "key_semantic_attention_pack_kernel",
    "key_semantic_attention_transpose_kernel",
]

# Tokens of a group, and the number of which lists are padded to a multiple.
GROUP = tl.constexpr(64)


@triton.jit
def key_semantic_attention_transpose_kernel(p_packed, p_transposed, N, W):
    """Exchange rows and columns of the mask: one program per window and 32 rows, which are one word of the result."""
    i_w = tl.program_id(0) % W
    i_b = (tl.program_id(0) // W).to(tl.int64)
    o_bit = tl.arange(0, 32)
    o_row = i_w * 32 + o_bit
    for i in range(0, W):
        b_words = tl.load(p_packed + (i_b * N + o_row) * W + i, mask=o_row < N, other=0)
        b_bits = (b_words[:, None] >> o_bit[None, :]) & 1
        o_column = i * 32 + o_bit
        p_column = p_transposed + (i_b * N + o_column) * W + i_w
        tl.store(p_column, tl.sum(b_bits << o_bit[:, None], 0), mask=o_column < N)


@triton.jit
def _or(x, y):
    return x | y


@triton.jit
def key_semantic_attention_list_kernel(p_packed, p_order, p_lists, p_counts, N, W, T, WORDS: tl.constexpr):
    """List the tokens, in their own order, that any of a group is paired with: one program per window and group.

    A list goes on with its first token up to a multiple of GROUP.
    """
    i_g = tl.program_id(0).to(tl.int64)
    o_n = tl.load(p_order + i_g * GROUP + tl.arange(0, GROUP))
    p_rows = p_packed + (i_g // T * N + o_n) * W
    p_lists += i_g * T * GROUP
    o_bit = tl.arange(0, 32 * WORDS)
    count = 0
    first = N
    for i in range(0, W, WORDS):
        o_w = i + tl.arange(0, WORDS)
        m_words = (o_n < N)[:, None] & (o_w < W)[None, :]
        b_words = tl.reduce(tl.load(p_rows[:, None] + o_w[None, :], mask=m_words, other=0), 0, _or)
        b_used = tl.reshape((b_words[:, None] >> tl.arange(0, 32)[None, :]) & 1, [32 * WORDS])
        o_token = i * 32 + o_bit
        tl.store(p_lists + count + tl.cumsum(b_used, 0) - 1, o_token, mask=b_used != 0)
        count += tl.sum(b_used, 0)
        first = tl.minimum(first, tl.min(tl.where(b_used != 0, o_token, N), 0))
    o_pad = count + tl.arange(0, GROUP)
    tl.store(p_lists + o_pad, tl.zeros_like(o_pad) + first, mask=o_pad < tl.cdiv(count, GROUP) * GROUP)
    tl.store(p_counts + i_g, count)


@triton.jit
def key_semantic_attention_pack_kernel(p_packed, p_order, p_lists, p_counts, p_bits, N, W, T):
    """Gather the bits of a group's tokens and 32 listed ones: one program per 32 of the tokens that may be listed."""
    i_w = tl.program_id(0) % (T * (GROUP // 32))
    i_g = (tl.program_id(0) // (T * (GROUP // 32))).to(tl.int64)
    count = tl.load(p_counts + i_g)
    if i_w * 32 < tl.cdiv(count, GROUP) * GROUP:
        o_m, o_bit = tl.arange(0, GROUP), tl.arange(0, 32)
        o_n = tl.load(p_order + i_g * GROUP + o_m)
        o_listed = tl.load(p_lists + i_g * T * GROUP + i_w * 32 + o_bit)
        m_pair = (o_n < N)[:, None] & (i_w * 32 + o_bit < count)[None, :]
        p_rows = p_packed + (i_g // T * N + o_n) * W
        b_words = tl.load(p_rows[:, None] + (o_listed // 32)[None, :], mask=m_pair, other=0)
        b_bits = ((b_words >> (o_listed % 32)[None, :]) & 1) << o_bit[None, :]
        tl.store(p_bits + (i_g * (T * (GROUP // 32)) + i_w) * GROUP + o_m, tl.sum(b_bits, 1))
