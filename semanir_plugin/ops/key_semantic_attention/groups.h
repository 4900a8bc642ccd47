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
    const number *rows[GROUP];     /* of its queries, by lane; any row in lanes that have none */
    ptrdiff_t bias_start[VECTORS]; /* of each vector: an index into the bias, to which that of the key is added */
    float factor;                  /* `score_factor` */
} Group;

/* Where the scale is, and log2(e). Floats take both along in q, and the scale in the rows of q that make dk and in dq.
 * bfloat16 are multiplied as they are, exact: then scores take both, and gradients of scores the scale. */
static float query_factor(const Attention *a) { return BF16 ? 1.0f : a->scale * LOG2E; }
static float score_factor(const Attention *a) { return BF16 ? a->scale * LOG2E : 1.0f; }
static float row_factor(const Attention *a) { return BF16 ? 1.0f : a->scale; }

static Group group_of(const Attention *a, const Head *head, int b, int index) {
    int n = a->tokens, w = a->side;
    ptrdiff_t list = (ptrdiff_t)b * group_count(n) + index;
    Group group = {.head = head, .count = a->counts[list], .keys = a->keys + list * list_length(n),
                   .bits = a->bits + list * list_length(n), .factor = score_factor(a)};
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

/* Rows of a group times a factor, transposed: words (width padded to vectors, GROUP). */
static void lanes_from_rows(const number *const *rows, int width, float factor, float *to) {
    for (int j = 0; j < VECTORS; j++)
        for (int d = 0; d < width; d += LANES) {
            vf block[LANES];
            UNROLL for (int i = 0; i < LANES; i++) block[i] = channels_of(rows[j * LANES + i], d, width);
            transpose(block);
            UNROLL for (int i = 0; i < LANES; i++) block[i] *= splat(factor);
            UNROLL for (int i = 0; i < LANES; i += PER_WORD)
                store(to + (d + i) / PER_WORD * GROUP + j * LANES, pack(block[i], block[i + PER_WORD - 1]));
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

/* What a key adds to scores: its bias, less `base`. */
INLINE vf offset_of(const Group *group, int key, const vf *base, int vector) {
    vf offset = -base[vector];
    if (group->head->bias) offset += load_bias(group, key, vector) * splat(LOG2E);
    return offset;
}

/* The scores of ROWS or STEP keys, to base 2 and less `base`, in registers. */
INLINE void score(const Group *group, int width, int rows, const int32_t *keys, const float *q, const vf *base,
                  vf (*sum)[VECTORS]) {
    const number *k[ROWS];
    UNROLL for (int r = 0; r < rows; r++) {
        k[r] = group->head->k + keys[r] * group->head->k_row;
        UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = BF16 ? splat(0.0f) : offset_of(group, keys[r], base, j);
    }
    for (int word = 0; word < words_of(width); word++) {
        vf x[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) x[j] = load_once(q + word * GROUP + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vf y = splat(word_at(k[r], word));
            UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = multiply_add(y, x[j], sum[r][j]);
        }
    }
    UNROLL for (int r = 0; BF16 && r < rows; r++)
        UNROLL for (int j = 0; j < VECTORS; j++)
            sum[r][j] = sum[r][j] * splat(group->factor) + offset_of(group, keys[r], base, j);
}

/* Words of weights, which are summed as they were rounded: means of values have weights of 1 together. */
INLINE void store_weights(vf first, vf last, float *to, vf *total) {
    vf words = pack(first, last);
    UNROLL for (int i = 0; i < PER_WORD; i++) *total += numbers_in(words, i);
    store(to, words);
}

/* Scores of some keys, less `base`; where `weigh`, words of their exponentials for those who chose them, added to
 * `total`. */
INLINE void forward_tile(const Group *group, int width, int rows, int weigh, int at, const float *q, const vf *base,
                         float *scores, vf *total) {
    vf sum[ROWS][VECTORS];
    score(group, width, rows, group->keys + at, q, base, sum);
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) {
            if (weigh) {
                sum[r][j] = keep(group->bits[at + r] >> (j * LANES), weight_of(sum[r][j]));
                if (r % PER_WORD == PER_WORD - 1)
                    store_weights(sum[r - PER_WORD + 1][j], sum[r][j], scores + r / PER_WORD * GROUP + j * LANES, &total[j]);
            } else {
                store(scores + r * GROUP + j * LANES, sum[r][j]);
            }
        }
}

INLINE void forward_tiles(const Group *group, int width, int weigh, int at, int stop, const float *q, const vf *base,
                          float *scores, vf *total) {
    int stride = weigh ? GROUP / PER_WORD : GROUP;
    for (; at + ROWS <= stop; at += ROWS, scores += ROWS * stride)
        forward_tile(group, width, ROWS, weigh, at, q, base, scores, total);
    for (; at < stop; at += STEP, scores += STEP * stride)
        forward_tile(group, width, STEP, weigh, at, q, base, scores, total);
}

/* sums[d] += rows[c][d] w[c], of words, for `channels` of them, from `d` on. */
INLINE void add_channels(int channels, int d, int count, const float *const *rows, const float *w, float *sums) {
    vf sum[ROWS][VECTORS];
    UNROLL for (int r = 0; r < channels; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = load(sums + (d + r) * GROUP + j * LANES);
    for (int c = 0; c < count; c++) {
        vf x[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) x[j] = load_once(w + c * GROUP + j * LANES);
        UNROLL for (int r = 0; r < channels; r++) {
            vf y = splat(rows[c][d + r]);
            UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = multiply_add(y, x[j], sum[r][j]);
        }
    }
    UNROLL for (int r = 0; r < channels; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) store(sums + (d + r) * GROUP + j * LANES, sum[r][j]);
}

#define EACH_ROWS(CASE)                                                                                      \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)

/* sums += rows^T w: (width, GROUP) of `count` rows of words and (count, GROUP), in parts of about equal size. */
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
static void rows_of(const number *from, ptrdiff_t stride, const uint8_t *odd, const number *zeros, const int32_t *keys,
                    int count, const number **rows) {
    for (int c = 0; c < count; c++) rows[c] = odd && odd[keys[c]] ? zeros : from + keys[c] * stride;
}

/* What `rows_of` left out, for those who chose it. */
static void add_odd_rows(const number *from, ptrdiff_t stride, const uint8_t *odd, const int32_t *keys,
                         const uint32_t *bits, int width, int count, const float *w, float *sums) {
    for (int c = 0; odd && c < count; c++)
        for (int d = 0; odd[keys[c]] && d < width; d++)
            for (int j = 0; j < VECTORS; j++) {
                float *sum = sums + d * GROUP + j * LANES;
                vf weight = numbers_in(load(w + c / PER_WORD * GROUP + j * LANES), c % PER_WORD);
                vf x = splat(value_of(from[keys[c] * stride + d])) * weight;
                store(sum, load(sum) + keep(bits[c] >> (j * LANES), x));
            }
}

/* sums += rows^T w for rows of some keys, as `rows_of` has them. */
static void add_rows(const Head *head, int width, int count, const number **rows, const float *w, float *sums) {
#if BF16
    const float *words[CHUNK / 2];
    if (count % 2) rows[count] = head->zeros;
    for (int c = 0; c < count; c += 2) {
        float *to = head->pairs + c / 2 * padded(width);
        for (int d = 0; d < width; d += LANES) store(to + d, row_pairs(rows[c], rows[c + 1], d, width));
        words[c / 2] = to;
    }
    add_product(width, (count + 1) / 2, words, w, sums);
#else
    (void)head;
    add_product(width, count, rows, w, sums);
#endif
}

static void add_values(const Group *group, int width, int at, int count, const float *w, float *sums) {
    const Head *head = group->head;
    const number *rows[CHUNK];
    rows_of(head->v, head->v_row, head->odd_values, head->zeros, group->keys + at, count, rows);
    add_rows(head, width, count, rows, w, sums);
    add_odd_rows(head->v, head->v_row, head->odd_values, group->keys + at, group->bits + at, width, count, w, sums);
}

#endif
