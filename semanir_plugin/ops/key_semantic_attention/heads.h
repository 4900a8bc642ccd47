/* What the kernels are given, and what all groups of one head of one window share. */
#ifndef SEMANIR_HEADS_H
#define SEMANIR_HEADS_H

#include <float.h>

#include "lists.h"

typedef struct {
    int batch, heads, tokens, width, value_width;
    int side; /* w of a table of bias, 0 where the bias is dense */
    float scale;
    ptrdiff_t q_stride[3], k_stride[3], v_stride[3], grad_stride[3], out_stride[3];
    const number *q, *k, *v, *grad;
    const float *bias;
    const int32_t *counts, *keys; /* (B, groups), (B, groups, list_length) */
    const uint32_t *bits;         /* (B, groups, list_length) */
    float *out, *lse;
    float *dq, *dk, *dv, *dbias; /* dbias: (splits, ...) as bias, zeros */
    int splits;                  /* forward: parts of a window's queries; backward: parts of the batch */
} Attention;

static void *take(char **memory, size_t bytes) {
    void *taken = *memory;
    *memory += (bytes + 63) / 64 * 64;
    return taken;
}

typedef struct {
    const number *q, *k, *v, *grad; /* first rows */
    const float *bias;              /* of this head */
    ptrdiff_t q_row, k_row, v_row, grad_row;
    int run_stride;            /* from one run of a vector to the next, in the bias */
    const int32_t *key_offset; /* where the bias of a key begins, less that of the queries */
    float longest;             /* length of the longest key */
    float most;                /* the largest bias, to base 2; infinity where that is not known */
    const uint8_t *odd_keys, *odd_values; /* rows that are not all finite, NULL where all are */
    const number *zeros;                  /* a row of them */
    float *pairs;                         /* (CHUNK / 2, D padded): of bfloat16, words of two rows each */
} Head;

static ptrdiff_t bias_size(const Attention *a) {
    int n = a->tokens;
    return a->side ? (ptrdiff_t)(2 * a->side - 1) * (2 * a->side - 1) : (ptrdiff_t)n * up_to(n, GROUP);
}

/* Mark the rows that are not all finite; return whether there are any. */
static int mark_odd_rows(const number *rows, ptrdiff_t stride, int count, int width, uint8_t *odd) {
    vf all = splat(0.0f);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < width; d += LANES) all += channels_of(rows + i * stride, d, width) * splat(0.0f);
    int finite = !any_nan(all);
    for (int i = 0; !finite && i < count; i++) {
        odd[i] = 0;
        for (int d = 0; d < width; d++) odd[i] |= !isfinite(value_of(rows[i * stride + d]));
    }
    return !finite;
}

/* The length of the longest row of those that have one; whether all rows are surely finite. */
static float longest_row(const number *rows, ptrdiff_t stride, int count, int width, int *finite) {
    vf most = splat(0.0f), odd = splat(0.0f), squares[LANES];
    for (int first = 0; first < count; first += LANES) {
        for (int i = 0; i < LANES; i++) {
            squares[i] = splat(0.0f);
            for (int d = 0; d < width && first + i < count; d += LANES) {
                vf x = channels_of(rows + (first + i) * stride, d, width);
                squares[i] += x * x;
            }
        }
        vf sums = sums_of(squares);
        most = larger(sums, most);
        odd += sums * splat(0.0f);
    }
    *finite = !any_nan(odd);
    return sqrtf(largest_of(most));
}

static float largest_bias(const Attention *a, const float *bias) {
    if (!a->side) return INFINITY; /* a dense one is too large to be looked through for each head of each window */
    vf most = splat(-INFINITY);
    ptrdiff_t size = bias_size(a), i = 0;
    for (; i + LANES <= size; i += LANES) most = larger(load(bias + i), most);
    float result = largest_of(most);
    for (; i < size; i++) result = bias[i] > result ? bias[i] : result;
    return result * LOG2E;
}

static size_t pairs_size(int widest) { return BF16 ? sizeof(float) * padded(widest) * (CHUNK / 2) : 0; }

static size_t head_scratch(const Attention *a) {
    int widest = a->width > a->value_width ? a->width : a->value_width;
    size_t tables = sizeof(int32_t) * a->tokens + 2 * a->tokens;
    return tables + sizeof(number) * padded(widest) + pairs_size(widest) + 5 * 64;
}

static Head head_of(const Attention *a, int b, int h, char **memory) {
    int n = a->tokens, w = a->side, side = block_side(n), widest = a->width > a->value_width ? a->width : a->value_width;
    int32_t *key_offset = take(memory, sizeof(int32_t) * n);
    uint8_t *odd_keys = take(memory, n), *odd_values = take(memory, n);
    number *zeros = take(memory, sizeof(number) * padded(widest));
    memset(zeros, 0, sizeof(number) * padded(widest));
    for (int j = 0; j < n; j++) key_offset[j] = w ? -(j / w * (2 * w - 1) + j % w) : j * up_to(n, GROUP);
    Head head = {.q_row = a->q_stride[2], .k_row = a->k_stride[2], .v_row = a->v_stride[2], .grad_row = a->grad_stride[2],
                 .q = a->q + b * a->q_stride[0] + h * a->q_stride[1],
                 .k = a->k + b * a->k_stride[0] + h * a->k_stride[1],
                 .v = a->v + b * a->v_stride[0] + h * a->v_stride[1],
                 .bias = a->bias ? a->bias + h * bias_size(a) : NULL,
                 .run_stride = w ? 2 * w - 1 : side ? side : RUN, .key_offset = key_offset, .zeros = zeros,
                 .pairs = take(memory, pairs_size(widest))};
    if (a->grad) head.grad = a->grad + b * a->grad_stride[0] + h * a->grad_stride[1];
    if (mark_odd_rows(head.v, head.v_row, n, a->value_width, odd_values)) head.odd_values = odd_values;
    head.most = a->bias ? largest_bias(a, head.bias) : 0.0f;
    int finite;
    head.longest = longest_row(head.k, head.k_row, n, a->width, &finite);
    if (!finite && mark_odd_rows(head.k, head.k_row, n, a->width, odd_keys)) head.odd_keys = odd_keys;
    return head;
}

#endif
