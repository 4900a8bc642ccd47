/* Gradients: scores are computed again, group by group. */
#ifndef SEMANIR_BACKWARD_H
#define SEMANIR_BACKWARD_H

#include "groups.h"

/* What the backward of a group works on. */
typedef struct {
    float *q, *grad, *dq;        /* (D, GROUP), the first two of words */
    float *q_rows, *grad_rows;   /* words (GROUP, D padded), zeros in place of rows that are not all finite */
    float *weights, *dscores;    /* (CHUNK, GROUP), weights as words of neighbouring queries */
    float *by_query, *by_key;    /* dscores as words of neighbouring queries, and of keys: of floats `dscores` itself */
    const number *grads[GROUP];  /* rows of the gradient, as `rows` of Group */
    vf lse[VECTORS], mean[VECTORS]; /* mean: over keys, weight times its gradient */
    uint32_t odd;               /* lanes whose rows are not all finite */
} Gradient;

/* Gradients of the scores of a key, which take the scale, as words of neighbouring queries. */
INLINE void store_words(float scale, int key, const Gradient *s, vf *dscores) {
    UNROLL for (int j = 0; j < VECTORS; j++) dscores[j] *= splat(scale);
    store(s->by_query + key * LANES, neighbours(dscores[0], dscores[1]));
}

/* Those of two keys as words of these, once they have it. */
INLINE void store_pairs(int last_key, const Gradient *s, const vf *first, const vf *last) {
    UNROLL for (int j = 0; j < VECTORS; j++) store(s->by_key + last_key / 2 * GROUP + j * LANES, pack(first[j], last[j]));
}

/* Weights of some keys and the gradients of their scores. */
INLINE void backward_tile(const Attention *a, const Group *group, int rows, int at, int c, const Gradient *s) {
    vf sum[ROWS][VECTORS];
    const number *v[ROWS];
    const uint32_t *bits = group->bits + at;
    float *dscores = s->dscores + c * GROUP;
    float *exact = BF16 ? dscores : s->weights + c * GROUP; /* weights not rounded; gradients take their place below */
    score(group, a->width, rows, group->keys + at, s->q, s->lse, sum);
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int j = 0; j < VECTORS; j++) {
            sum[r][j] = keep(bits[r] >> (j * LANES), weight_of(sum[r][j]));
            store(exact + r * GROUP + j * LANES, sum[r][j]);
        }
        if (BF16) store(s->weights + (c + r) * LANES, neighbours(sum[r][0], sum[r][1]));
    }
    UNROLL for (int r = 0; r < rows; r++) {
        v[r] = group->head->v + group->keys[at + r] * group->head->v_row;
        UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = -s->mean[j];
    }
    for (int word = 0; word < words_of(a->value_width); word++) {
        vf x[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) x[j] = load_once(s->grad + word * GROUP + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vf y = splat(word_at(v[r], word));
            UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = multiply_add(y, x[j], sum[r][j]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int j = 0; j < VECTORS; j++) {
            sum[r][j] = keep(bits[r] >> (j * LANES), sum[r][j] * load(exact + r * GROUP + j * LANES));
            store(dscores + r * GROUP + j * LANES, sum[r][j]);
        }
        if (BF16) store_words(a->scale, c + r, s, sum[r]);
        if (BF16 && r % 2) store_pairs(c + r, s, sum[r - 1], sum[r]);
    }
}

static void backward_tiles(const Attention *a, const Group *group, int at, int count, const Gradient *s) {
    int c = 0;
    for (; c + ROWS <= count; c += ROWS) backward_tile(a, group, ROWS, at + c, c, s);
    for (; c < count; c += STEP) backward_tile(a, group, STEP, at + c, c, s);
}

/* to[r][d] += sum over words of lanes of w[r][lane] from[lane][d], for one or two vectors of channels. */
INLINE void add_outer_tile(int rows, int vectors, const float *w, const float *from, int stride, float *const *to, int d) {
    vf sum[ROWS][2];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = load(to[r] + d + j * LANES);
    for (int lane = 0; lane < GROUP / PER_WORD; lane++) {
        vf x[2];
        UNROLL for (int j = 0; j < vectors; j++) x[j] = load_once(from + lane * stride + d + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vf y = splat(w[r * (GROUP / PER_WORD) + lane]);
            UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = multiply_add(y, x[j], sum[r][j]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < vectors; j++) store(to[r] + d + j * LANES, sum[r][j]);
}

INLINE void add_outer_rows(int rows, int width, const float *w, const float *from, float *const *to) {
    int d = 0;
    for (; d + 2 * LANES <= width; d += 2 * LANES) add_outer_tile(rows, 2, w, from, width, to, d);
    if (d < width) add_outer_tile(rows, 1, w, from, width, to, d);
}

/* Rows of keys += w from: w words (count, GROUP), from words (GROUP, width), width whole vectors. */
static void add_outer(int count, int width, const float *w, const float *from, float *const *to) {
    int c = 0;
    for (; c + ROWS <= count; c += ROWS) add_outer_rows(ROWS, width, w + c * (GROUP / PER_WORD), from, to + c);
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        if (n < ROWS) add_outer_rows(n, width, w + c * (GROUP / PER_WORD), from, to + c);                    \
        break;
    switch (count - c) { EACH_ROWS(CASE) }
#undef CASE
}

/* What `add_outer` left out: queries whose rows are not all finite, to the keys that they chose. */
static void add_odd_queries(const Attention *a, const Group *group, int at, int count, const Gradient *s,
                            float *const *dk, float *const *dv) {
    for (int c = 0; c < count; c++)
        for (int lane = 0; lane < GROUP; lane++) {
            if (!(group->bits[at + c] & s->odd & (1u << lane))) continue;
            float weight = value_of(((const number *)s->weights)[c * GROUP + lane]);
            float dscore = s->dscores[c * GROUP + lane] * a->scale;
            for (int d = 0; d < a->width; d++) dk[c][d] += dscore * value_of(group->rows[lane][d]);
            for (int d = 0; d < a->value_width; d++) dv[c][d] += weight * value_of(s->grads[lane][d]);
        }
}

/* Neighbouring keys stand a float further in the table, and a load that overlaps a store just made has to wait for it:
 * so keys are taken some way apart. */
#define APART 15

static void add_bias_gradient(const Group *group, int at, int count, const float *dscores, float *dbias) {
    for (int start = 0; start < APART; start++)
        for (int c = start; c < count; c += APART)
            for (int r = 0; r < VECTORS * RUNS; r++) {
                float *to = dbias + group->head->key_offset[group->keys[at + c]] + group->bias_start[r / RUNS] +
                            r % RUNS * group->head->run_stride;
                *(run *)to += *(const run *)(dscores + c * GROUP + r * RUN);
            }
}

/* Copy the rows of a group as words, with zeros behind them and in place of those that are not all finite. */
static uint32_t finite_rows(const number *const *rows, const number *zeros, int width, float factor, float *to) {
    uint32_t odd = 0;
    for (int lane = 0; lane < GROUP; lane += PER_WORD, to += padded(width)) {
        const number *some[PER_WORD];
        for (int i = 0; i < PER_WORD; i++) {
            uint8_t mark;
            int is_odd = mark_odd_rows(rows[lane + i], 0, 1, width, &mark);
            some[i] = is_odd ? zeros : rows[lane + i];
            odd |= (uint32_t)is_odd << (lane + i);
        }
        for (int d = 0; d < width; d += LANES) {
            vf first = channels_of(some[0], d, width), last = channels_of(some[PER_WORD - 1], d, width);
            store(to + d, pack(first * splat(factor), last * splat(factor)));
        }
    }
    return odd;
}

static size_t backward_scratch(const Attention *a) {
    size_t rows = 3 * padded(a->width) + 2 * padded(a->value_width) + 2 * CHUNK + (BF16 ? CHUNK : 0);
    return head_scratch(a) + sizeof(float) * rows * GROUP + 10 * 64;
}

static Gradient gradient_of(const Attention *a, const Group *group, int b, int h, char *memory) {
    size_t bytes = sizeof(float) * padded(a->width) * GROUP, value_bytes = sizeof(float) * padded(a->value_width) * GROUP;
    Gradient s = {.q = take(&memory, bytes), .q_rows = take(&memory, bytes), .dq = take(&memory, bytes),
                  .grad = take(&memory, value_bytes), .grad_rows = take(&memory, value_bytes),
                  .weights = take(&memory, sizeof(float) * CHUNK * GROUP),
                  .dscores = take(&memory, sizeof(float) * CHUNK * GROUP)};
    s.by_query = BF16 ? take(&memory, sizeof(number) * CHUNK * GROUP) : s.dscores;
    s.by_key = BF16 ? take(&memory, sizeof(number) * CHUNK * GROUP) : s.dscores;
    const float *lse = a->lse + ((ptrdiff_t)b * a->heads + h) * a->tokens;
    const float *out = a->out + b * a->out_stride[0] + h * a->out_stride[1];
    vf products[VECTORS][LANES];
    for (int lane = 0; lane < GROUP; lane++) {
        int token = token_of(group->first, lane), j = lane / LANES, i = lane % LANES;
        if (token >= a->tokens) token = 0; /* chosen by none */
        s.grads[lane] = group->head->grad + token * group->head->grad_row;
        s.lse[j][i] = lse[token];
        products[j][i] = splat(0.0f);
        for (int d = 0; d < a->value_width; d += LANES)
            products[j][i] += channels_of(s.grads[lane], d, a->value_width) *
                              load_channels(out + token * a->out_stride[2], d, a->value_width);
    }
    for (int j = 0; j < VECTORS; j++) s.mean[j] = sums_of(products[j]);
    lanes_from_rows(group->rows, a->width, query_factor(a), s.q);
    lanes_from_rows(s.grads, a->value_width, 1.0f, s.grad);
    s.odd = finite_rows(group->rows, group->head->zeros, a->width, row_factor(a), s.q_rows);
    s.odd |= finite_rows(s.grads, group->head->zeros, a->value_width, 1.0f, s.grad_rows);
    memset(s.dq, 0, bytes);
    return s;
}

/* Where the gradients of a head go: first rows, and the bias's or NULL. */
typedef struct {
    float *dq, *dk, *dv, *dbias;
} Targets;

static void backward_group(const Attention *a, const Head *head, int b, int h, int index, const Targets *to,
                           char *memory) {
    Group group = group_of(a, head, b, index);
    Gradient s = gradient_of(a, &group, b, h, memory);
    int width = padded(a->width), value_width = padded(a->value_width);
    for (int at = 0; at < group.count; at += CHUNK) {
        int count = group.count - at < CHUNK ? group.count - at : CHUNK;
        const int32_t *keys = group.keys + at;
        const number *k[CHUNK];
        float *dk[CHUNK], *dv[CHUNK];
        for (int c = 0; c < count; c++) {
            dk[c] = to->dk + (ptrdiff_t)keys[c] * width;
            dv[c] = to->dv + (ptrdiff_t)keys[c] * value_width;
        }
        backward_tiles(a, &group, at, count, &s);
        if (to->dbias) add_bias_gradient(&group, at, count, s.dscores, to->dbias);
        rows_of(head->k, head->k_row, head->odd_keys, head->zeros, keys, count, k);
        add_rows(head, a->width, count, k, s.by_key, s.dq);
        add_odd_rows(head->k, head->k_row, head->odd_keys, keys, group.bits + at, a->width, count, s.by_key, s.dq);
        add_outer(count, value_width, s.weights, s.grad_rows, dv);
        add_outer(count, width, s.by_query, s.q_rows, dk);
        if (s.odd) add_odd_queries(a, &group, at, count, &s, dk, dv);
    }
    for (int j = 0; j < VECTORS; j++) s.mean[j] = splat(row_factor(a));
    rows_from_lanes(s.dq, a->width, s.mean, a->tokens, group.first, to->dq, a->width);
}

/* A task owns one head in one part of the batch: its share of dbias is summed in a fixed order, so runs agree. */
static void backward_task(const void *arguments, int task, void *scratch) {
    const Attention *a = arguments;
    int n = a->tokens, h = task % a->heads, part = task / a->heads;
    int stop = (int)((int64_t)a->batch * (part + 1) / a->splits);
    for (int b = (int)((int64_t)a->batch * part / a->splits); b < stop; b++) {
        ptrdiff_t row = ((ptrdiff_t)b * a->heads + h) * n;
        Targets to = {a->dq + row * a->width, a->dk + row * padded(a->width), a->dv + row * padded(a->value_width), NULL};
        char *memory = scratch;
        Head head = head_of(a, b, h, &memory);
        if (a->dbias) to.dbias = a->dbias + ((ptrdiff_t)part * a->heads + h) * bias_size(a);
        memset(to.dk, 0, sizeof(float) * n * padded(a->width));
        memset(to.dv, 0, sizeof(float) * n * padded(a->value_width));
        for (int g = 0; g < group_count(n); g++) backward_group(a, &head, b, h, g, &to, memory);
    }
}

#endif
