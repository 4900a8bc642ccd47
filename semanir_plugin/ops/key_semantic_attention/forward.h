/* Softmax of one group over its keys, and its mean of values. */
#ifndef SEMANIR_FORWARD_H
#define SEMANIR_FORWARD_H

#include "groups.h"

/* Exponents are taken below a bound of the scores rather than below their maximum. A bound up to this is tried, and its
 * sum of exponentials has kept all digits if it is at least that. */
#define LARGEST_BOUND 100.0f
#define LEAST_SUM 0x1p-60f

/* What the forward of a group fills: per lane the sum of exponentials and what their exponents were below. */
typedef struct {
    float *q, *sums, *scores; /* words (D, GROUP); (D, GROUP); (CHUNK, GROUP), weights as words */
    vf total[VECTORS], base[VECTORS];
} Softmax;

static int bounded(const Attention *a, const Group *group, Softmax *s) {
    vf most = splat(0.0f);
    for (int j = 0; j < VECTORS; j++) {
        vf squares = splat(0.0f);
        for (int word = 0; word < words_of(a->width); word++) {
            vf x = load(s->q + word * GROUP + j * LANES);
            squares = multiply_add(x, x, squares);
        }
        s->base[j] = root_of(squares) * splat(group->head->longest * fabsf(group->factor)) + splat(group->head->most);
        most = larger(s->base[j], most);
    }
    return largest_of(most) <= LARGEST_BOUND;
}

/* Weights below the bound; whether their sums kept all digits. */
static int attend_bounded(const Attention *a, const Group *group, Softmax *s) {
    memset(s->sums, 0, sizeof(float) * a->value_width * GROUP);
    for (int j = 0; j < VECTORS; j++) s->total[j] = splat(0.0f);
    for (int at = 0; at < group->count; at += CHUNK) {
        int count = group->count - at < CHUNK ? group->count - at : CHUNK;
        forward_tiles(group, a->width, 1, at, at + count, s->q, s->base, s->scores, s->total);
        add_values(group, a->value_width, at, count, s->scores, s->sums);
    }
    for (int lane = 0; lane < GROUP; lane++)
        if (token_of(group->first, lane) < a->tokens && !(s->total[lane / LANES][lane % LANES] >= LEAST_SUM)) return 0;
    return 1;
}

/* Words of the exponentials of a chunk below its maximum so far, in place of its scores; what was summed before is brought
 * down to it. */
static void weigh_chunk(const Attention *a, const uint32_t *bits, int count, Softmax *s) {
    for (int j = 0; j < VECTORS; j++) {
        float *column = s->scores + j * LANES;
        vf old = s->base[j], best = old;
        for (int c = 0; c < count; c++)
            best = larger(choose(bits[c] >> (j * LANES), load(column + c * GROUP), splat(-INFINITY)), best);
        vf low = larger(splat(-FLT_MAX), best), factor = weight_of(old - low), sum = splat(0.0f);
        for (int c = 0; c < count; c += PER_WORD) {
            vf weights[PER_WORD];
            for (int i = 0; i < PER_WORD; i++) {
                uint32_t chosen = c + i < count ? bits[c + i] >> (j * LANES) : 0;
                weights[i] = keep(chosen, weight_of(load(column + (c + i) * GROUP) - low));
            }
            store_weights(weights[0], weights[PER_WORD - 1], column + c / PER_WORD * GROUP, &sum);
        }
        s->total[j] = s->total[j] * factor + sum;
        s->base[j] = best;
        for (int d = 0; d < a->value_width; d++) {
            float *p = s->sums + d * GROUP + j * LANES;
            store(p, load(p) * factor);
        }
    }
}

static void attend_online(const Attention *a, const Group *group, Softmax *s) {
    vf none[VECTORS];
    memset(s->sums, 0, sizeof(float) * a->value_width * GROUP);
    for (int j = 0; j < VECTORS; j++)
        none[j] = s->total[j] = splat(0.0f), s->base[j] = splat(-INFINITY);
    for (int at = 0; at < group->count; at += CHUNK) {
        int count = group->count - at < CHUNK ? group->count - at : CHUNK;
        forward_tiles(group, a->width, 0, at, at + count, s->q, none, s->scores, s->total);
        weigh_chunk(a, group->bits + at, count, s);
        add_values(group, a->value_width, at, count, s->scores, s->sums);
    }
    /* A softmax of nothing but -infinity is NaN, and so is what is taken from itself here. */
    for (int j = 0; j < VECTORS; j++) s->total[j] = s->total[j] + (s->base[j] - s->base[j]);
}

static size_t forward_scratch(const Attention *a) {
    size_t rows = padded(a->width) + padded(a->value_width) + CHUNK;
    return head_scratch(a) + sizeof(float) * rows * GROUP + 4 * 64;
}

static void forward_group(const Attention *a, const Head *head, int b, int h, int index, char *memory) {
    Group group = group_of(a, head, b, index);
    Softmax s = {.q = take(&memory, sizeof(float) * padded(a->width) * GROUP),
                 .sums = take(&memory, sizeof(float) * padded(a->value_width) * GROUP),
                 .scores = take(&memory, sizeof(float) * CHUNK * GROUP)};
    float *out = a->out + b * a->out_stride[0] + h * a->out_stride[1];
    float *lse = a->lse + ((ptrdiff_t)b * a->heads + h) * a->tokens;
    lanes_from_rows(group.rows, a->width, query_factor(a), s.q);
    if (!bounded(a, &group, &s) || !attend_bounded(a, &group, &s)) attend_online(a, &group, &s);
    for (int lane = 0; lane < GROUP; lane++) {
        int token = token_of(group.first, lane), j = lane / LANES, i = lane % LANES;
        if (token < a->tokens) lse[token] = s.base[j][i] + log2f(s.total[j][i]);
    }
    for (int j = 0; j < VECTORS; j++) s.total[j] = splat(1.0f) / s.total[j];
    rows_from_lanes(s.sums, a->value_width, s.total, a->tokens, group.first, out, a->out_stride[2]);
}

static void forward_task(const void *arguments, int task, void *scratch) {
    const Attention *a = arguments;
    int part = task % a->splits, h = task / a->splits % a->heads, b = task / a->splits / a->heads;
    int groups = group_count(a->tokens);
    char *memory = scratch;
    Head head = head_of(a, b, h, &memory);
    for (int g = groups * part / a->splits; g < groups * (part + 1) / a->splits; g++)
        forward_group(a, &head, b, h, g, memory);
}

#endif
