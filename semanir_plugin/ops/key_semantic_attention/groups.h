/* One group of queries: its rows turned into lanes and back, scores, and products with rows of keys. */
#ifndef SEMANIR_GROUPS_H
#define SEMANIR_GROUPS_H

#include "heads.h"

typedef struct {
    const Head *head;
    int first[VECTORS * RUNS];
    int count; /* of its list */
    const int32_t *keys;
    const uint32_t *bits;
    const float *rows[GROUP];      /* of its queries, by lane; any row in lanes that have none */
    ptrdiff_t bias_start[VECTORS]; /* of each vector: an index into the bias, to which that of the key is added */
} Group;

static Group group_of(const Attention *a, const Head *head, int b, int index) {
    int n = a->tokens, w = a->side;
    ptrdiff_t list = (ptrdiff_t)b * group_count(n) + index;
    Group group = {.head = head, .count = a->counts[list], .keys = a->keys + list * list_length(n),
                   .bits = a->bits + list * list_length(n)};
    runs_of(n, index, group.first);
    for (int lane = 0; lane < GROUP; lane++) {
        int token = token_of(group.first, lane);
        group.rows[lane] = head->q + (token < n ? token : 0) * head->q_row;
    }
    for (int j = 0; j < VECTORS; j++) {
        int token = group.first[j * RUNS];
        group.bias_start[j] = w ? (token / w + w - 1) * (2 * w - 1) + token % w + w - 1 : token;
    }
    return group;
}

/* Rows of a group times a factor, transposed: (width padded to vectors, GROUP). */
static void lanes_from_rows(const float *const *rows, int width, float factor, float *to) {
    for (int j = 0; j < VECTORS; j++)
        for (int d = 0; d < width; d += LANES) {
            vf block[LANES];
            UNROLL for (int i = 0; i < LANES; i++) block[i] = load_channels(rows[j * LANES + i], d, width);
            transpose(block);
            UNROLL for (int i = 0; i < LANES; i++) store(to + (d + i) * GROUP + j * LANES, block[i] * splat(factor));
        }
}

/* (width padded to vectors, GROUP) times a factor per lane, transposed into the rows of the group that exist. */
static void rows_from_lanes(const float *from, int width, const vf *factor, int tokens, const int *first, float *to,
                            ptrdiff_t row_stride) {
    for (int j = 0; j < VECTORS; j++)
        for (int d = 0; d < width; d += LANES) {
            vf block[LANES];
            UNROLL for (int i = 0; i < LANES; i++) block[i] = load(from + (d + i) * GROUP + j * LANES) * factor[j];
            transpose(block);
            for (int i = 0; i < LANES; i++) {
                int token = token_of(first, j * LANES + i);
                if (token < tokens) store_channels(to + token * row_stride, d, width, block[i]);
            }
        }
}

INLINE vf load_bias(const Group *group, int key, int vector) {
    const float *from = group->head->bias + group->head->key_offset[key] + group->bias_start[vector];
#if RUNS == 2
    __m512 x = _mm512_castps256_ps512(_mm256_loadu_ps(from));
    return (vf)_mm512_insertf32x8(x, _mm256_loadu_ps(from + group->head->run_stride), 1);
#else
    return load(from);
#endif
}

/* The scores of ROWS or STEP keys, to base 2 and less `base`, in registers. */
INLINE void score(const Group *group, int width, int rows, const int32_t *keys, const float *q, const vf *base,
                  vf (*sum)[VECTORS]) {
    const float *k[ROWS];
    UNROLL for (int r = 0; r < rows; r++) {
        k[r] = group->head->k + keys[r] * group->head->k_row;
        UNROLL for (int j = 0; j < VECTORS; j++) {
            sum[r][j] = -base[j];
            if (group->head->bias) sum[r][j] += load_bias(group, keys[r], j) * splat(LOG2E);
        }
    }
    for (int d = 0; d < width; d++) {
        vf x[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) x[j] = load_once(q + d * GROUP + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vf y = splat(k[r][d]);
            UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] += y * x[j];
        }
    }
}

/* Scores of some keys, less `base`; where `weigh`, their exponentials for those who chose them, added to `total`. */
INLINE void forward_tile(const Group *group, int width, int rows, int weigh, int at, const float *q, const vf *base,
                         float *scores, vf *total) {
    vf sum[ROWS][VECTORS];
    score(group, width, rows, group->keys + at, q, base, sum);
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) {
            if (weigh) {
                sum[r][j] = keep(group->bits[at + r] >> (j * LANES), exp2_of(sum[r][j]));
                total[j] += sum[r][j];
            }
            store(scores + r * GROUP + j * LANES, sum[r][j]);
        }
}

INLINE void forward_tiles(const Group *group, int width, int weigh, int at, int stop, const float *q, const vf *base,
                          float *scores, vf *total) {
    for (; at + ROWS <= stop; at += ROWS, scores += ROWS * GROUP)
        forward_tile(group, width, ROWS, weigh, at, q, base, scores, total);
    for (; at < stop; at += STEP, scores += STEP * GROUP)
        forward_tile(group, width, STEP, weigh, at, q, base, scores, total);
}

/* sums[d] += rows[c][d] w[c] for `channels` of them, from `d` on. */
INLINE void add_channels(int channels, int d, int count, const float *const *rows, const float *w, float *sums) {
    vf sum[ROWS][VECTORS];
    UNROLL for (int r = 0; r < channels; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = load(sums + (d + r) * GROUP + j * LANES);
    for (int c = 0; c < count; c++) {
        vf x[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) x[j] = load_once(w + c * GROUP + j * LANES);
        UNROLL for (int r = 0; r < channels; r++) {
            vf y = splat(rows[c][d + r]);
            UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] += y * x[j];
        }
    }
    UNROLL for (int r = 0; r < channels; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) store(sums + (d + r) * GROUP + j * LANES, sum[r][j]);
}

#define EACH_ROWS(CASE)                                                                                      \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)

/* sums += rows^T w: (width, GROUP) of `count` rows and (count, GROUP), in parts of about equal size. */
static void add_product(int width, int count, const float *const *rows, const float *w, float *sums) {
    int parts = (width + ROWS - 1) / ROWS;
    for (int part = 0; part < parts; part++) {
        int d = width * part / parts;
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        if (n <= ROWS) add_channels(n, d, count, rows, w, sums);                                             \
        break;
        switch (width * (part + 1) / parts - d) { EACH_ROWS(CASE) }
#undef CASE
    }
}

/* The rows of some keys; where a row is not all finite, zeros in its place: see `add_odd_rows`. */
static void rows_of(const float *from, ptrdiff_t stride, const uint8_t *odd, const float *zeros, const int32_t *keys,
                    int count, const float **rows) {
    for (int c = 0; c < count; c++) rows[c] = odd && odd[keys[c]] ? zeros : from + keys[c] * stride;
}

/* What `rows_of` left out, for those who chose it. */
static void add_odd_rows(const float *from, ptrdiff_t stride, const uint8_t *odd, const int32_t *keys,
                         const uint32_t *bits, int width, int count, const float *w, float *sums) {
    for (int c = 0; odd && c < count; c++)
        for (int d = 0; odd[keys[c]] && d < width; d++)
            for (int j = 0; j < VECTORS; j++) {
                float *sum = sums + d * GROUP + j * LANES;
                vf x = splat(from[keys[c] * stride + d]) * load(w + c * GROUP + j * LANES);
                store(sum, load(sum) + keep(bits[c] >> (j * LANES), x));
            }
}

static void add_values(const Group *group, int width, int at, int count, const float *w, float *sums) {
    const Head *head = group->head;
    const float *rows[CHUNK];
    rows_of(head->v, head->v_row, head->odd_values, head->zeros, group->keys + at, count, rows);
    add_product(width, count, rows, w, sums);
    add_odd_rows(head->v, head->v_row, head->odd_values, group->keys + at, group->bits + at, width, count, w, sums);
}

#endif
