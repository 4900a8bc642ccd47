/* Key-semantic attention on CPUs: each group of queries meets only the keys that one of them chose.
 *
 * Lanes are queries. A group is a block of neighbours, which choose alike; its list has the keys that any of them chose,
 * and for each a word of bits that tells which did. Lists are made once per dictionary, for all heads and layers. Scores
 * of a chunk of keys stay in the first-level cache and are used at once; the backward computes them again. Sums are of
 * fp32; exponentials to base 2. Numbers are floats, or bfloat16: see `native_bf16.c`.
 *
 * What is not finite in a row of k, v, q or of a gradient reaches only those that chose it or that it chose: products
 * leave such rows out, and a slow loop adds them where they belong.
 *
 * Layouts: q, k, v and grad, of numbers, and out, of floats, (B, H, N, D) by strides in elements, the last one 1. All
 * others are floats: dq contiguous; dk, dv (B, H, N, D padded to whole vectors); lse (B, H, N), to base 2; bias none, a
 * table (H, 2w - 1, 2w - 1), or dense and transposed, (H, N keys, N queries padded to whole groups). */
#include "backward.h"
#include "forward.h"
#include "threads.h"
#include "transposition.h"

/* What Python calls: 1 where memory ran out, else 0, unless it says otherwise. */

/* What Python's copy of `Attention` is compared with. */
int structure_size(void) { return sizeof(Attention); }
int last_offset(void) { return offsetof(Attention, splits); }

int lane_count(void) { return LANES; }
int group_size(void) { return GROUP; }
int list_step(void) { return STEP; }
/* A table of bias can be read for windows of such sides: there the queries of a run stand in one row of the window. */
int side_step(void) { return SIDE_STEP; }

/* Fill counts and lists for a mask (batch, tokens, tokens) of bytes. */
int list_keys(const uint8_t *mask, int batch, int tokens, int32_t *counts, int32_t *keys, uint32_t *bits, int threads) {
    Listing listing = {tokens, mask, counts, keys, bits};
    return run_tasks(list_task, &listing, batch * group_count(tokens), threads, sizeof(uint32_t) * tokens);
}

/* (heads, rows, from_stride) into (heads, columns, to_stride), zeros behind the `rows` of each. */
int transpose_matrices(int heads, int rows, int columns, int from_stride, int to_stride, const float *from, float *to,
                       int threads) {
    Transposition t = {rows, columns, from_stride, to_stride, from, to};
    return run_tasks(transpose_task, &t, heads * ((to_stride + BLOCK - 1) / BLOCK), threads, 0);
}

int attention_forward(const Attention *a, int threads) {
    return run_tasks(forward_task, a, a->batch * a->heads * a->splits, threads, forward_scratch(a));
}

int attention_backward(const Attention *a, int threads) {
    return run_tasks(backward_task, a, a->heads * a->splits, threads, backward_scratch(a));
}
