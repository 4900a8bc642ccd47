/* Key-semantic attention on CPUs: each group of queries meets only the keys that one of them chose.
 *
 * Lanes are queries. A group is a block of neighbours, which choose alike; its list has the keys that any of them chose,
 * and for each a word of bits that tells which did. Lists are made once per dictionary, for all heads and layers. Scores
 * of a chunk of keys stay in the first-level cache and are used at once; the backward computes them again. All in fp32;
 * exponentials to base 2, with log2(e) in q and bias.
 *
 * What is not finite in a row of k, v, q or of a gradient reaches only those that chose it or that it chose: products
 * leave such rows out, and a slow loop adds them where they belong.
 *
 * Layouts: q, k, v, grad, out (B, H, N, D) by strides in elements, the last one 1; dq contiguous; dk, dv (B, H, N, D
 * padded to whole vectors); lse (B, H, N), to base 2; bias none, a table (H, 2w - 1, 2w - 1), or dense and transposed,
 * (H, N keys, N queries padded to whole groups). */
#include <float.h>

#include "threads.h"
#include "vectors.h"

/* Vectors of queries in a group, neighbours in one row of the window, and rows of a window that a vector has. */
#define VECTORS 2
#define GROUP (VECTORS * LANES)
#define RUN (LANES < 8 ? LANES : 8)
#define RUNS (LANES / RUN)
typedef float run __attribute__((vector_size(4 * RUN), aligned(4), may_alias));
/* Keys, or channels, whose products are held in registers at once; STEP is for what is left over. */
#define ROWS (LANES == 16 ? 12 : 6)
#define STEP (LANES == 16 ? 4 : 2)
#define CHUNK 120 /* keys whose scores are held at once, a multiple of ROWS */
#define LOG2E 1.44269504088896340736f
/* Exponents are taken below a bound of the scores rather than below their maximum. A bound up to this is tried, and its
 * sum of exponentials has kept all digits if it is at least that. */
#define LARGEST_BOUND 100.0f
#define LEAST_SUM 0x1p-60f

typedef struct {
    int batch, heads, tokens, width, value_width;
    int side; /* w of a table of bias, 0 where the bias is dense */
    float scale;
    ptrdiff_t q_stride[3], k_stride[3], v_stride[3], grad_stride[3], out_stride[3];
    const float *q, *k, *v, *bias, *grad;
    const int32_t *counts, *keys; /* (B, groups), (B, groups, list_length) */
    const uint32_t *bits;         /* (B, groups, list_length) */
    float *out, *lse;
    float *dq, *dk, *dv, *dbias; /* dbias: (splits, ...) as bias, zeros */
    int splits;                  /* forward: parts of a window's queries; backward: parts of the batch */
} Attention;

static int up_to(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

static int group_count(int tokens) { return up_to(tokens, GROUP) / GROUP; }

/* Entries per list: behind the keys that were chosen stands the last one again, chosen by none, up to a whole STEP. */
static int list_length(int tokens) { return up_to(tokens, STEP); }

static int padded(int width) { return up_to(width, LANES); }

static void *take(char **memory, size_t bytes) {
    void *taken = *memory;
    *memory += (bytes + 63) / 64 * 64;
    return taken;
}

/* --- which queries stand in which lane --- */

/* Side of windows whose groups are blocks of rows of RUN; 0 where groups are simply GROUP tokens after another. */
static int block_side(int tokens) {
    int side = (int)lrint(sqrt((double)tokens));
    return side * side == tokens && side % RUN == 0 && side % (VECTORS * RUNS) == 0 ? side : 0;
}

/* First token of each run of a group; lanes of a run are tokens in turn. Past the last token where there are none. */
static void runs_of(int tokens, int group, int *first) {
    int side = block_side(tokens), columns = side / RUN;
    for (int r = 0; r < VECTORS * RUNS; r++)
        first[r] = side ? (group / columns * VECTORS * RUNS + r) * side + group % columns * RUN : group * GROUP + r * RUN;
}

static int token_of(const int *first, int lane) { return first[lane / RUN] + lane % RUN; }

/* --- lists of keys --- */

typedef struct {
    int tokens;
    const uint8_t *mask; /* (B, N, N) */
    int32_t *counts, *keys;
    uint32_t *bits;
} Listing;

static void list_task(const void *arguments, int task, void *scratch) {
    const Listing *a = arguments;
    int n = a->tokens, groups = group_count(n), length = list_length(n), count = 0, first[VECTORS * RUNS];
    const uint8_t *mask = a->mask + (ptrdiff_t)(task / groups) * n * n;
    int32_t *keys = a->keys + (ptrdiff_t)task * length;
    uint32_t *bits = a->bits + (ptrdiff_t)task * length, *words = scratch;
    runs_of(n, task % groups, first);
    memset(words, 0, sizeof *words * n);
    for (int lane = 0; lane < GROUP; lane++) {
        int token = token_of(first, lane);
        if (token >= n) continue;
        const uint8_t *row = mask + (ptrdiff_t)token * n;
        for (int j = 0; j < n; j++) words[j] |= (uint32_t)row[j] << lane;
    }
    for (int j = 0; j < n; j++) {
        bits[count] = words[j];
        keys[count] = j;
        count += words[j] != 0;
    }
    a->counts[task] = count;
    for (int c = count; c < up_to(count, STEP); c++) bits[c] = 0, keys[c] = keys[count - 1];
}

/* --- what all groups of a head share --- */

typedef struct {
    const float *q, *k, *v, *grad, *bias; /* first rows; of this window and head */
    ptrdiff_t q_row, k_row, v_row, grad_row;
    int run_stride;            /* from one run of a vector to the next, in the bias */
    const int32_t *key_offset; /* where the bias of a key begins, less that of the queries */
    float longest;             /* length of the longest key */
    float most;                /* the largest bias, to base 2; infinity where that is not known */
    const uint8_t *odd_keys, *odd_values; /* rows that are not all finite, NULL where all are */
    const float *zeros;                   /* a row of them */
} Head;

static ptrdiff_t bias_size(const Attention *a) {
    int n = a->tokens;
    return a->side ? (ptrdiff_t)(2 * a->side - 1) * (2 * a->side - 1) : (ptrdiff_t)n * up_to(n, GROUP);
}

/* Mark the rows that are not all finite; return whether there are any. */
static int mark_odd_rows(const float *rows, ptrdiff_t stride, int count, int width, uint8_t *odd) {
    vf all = splat(0.0f);
    for (int i = 0; i < count; i++)
        for (int d = 0; d < width; d += LANES) all += load_channels(rows + i * stride, d, width) * splat(0.0f);
    int finite = 1;
    for (int i = 0; i < LANES; i++) finite &= all[i] == 0.0f;
    for (int i = 0; !finite && i < count; i++) {
        odd[i] = 0;
        for (int d = 0; d < width; d++) odd[i] |= !isfinite(rows[i * stride + d]);
    }
    return !finite;
}

static float longest_row(const float *rows, ptrdiff_t stride, int count, int width) {
    vf most = splat(0.0f), squares[LANES];
    for (int first = 0; first < count; first += LANES) {
        for (int i = 0; i < LANES; i++) {
            squares[i] = splat(0.0f);
            for (int d = 0; d < width && first + i < count; d += LANES) {
                vf x = load_channels(rows + (first + i) * stride, d, width);
                squares[i] += x * x;
            }
        }
        most = larger(sums_of(squares), most);
    }
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

static size_t head_scratch(const Attention *a) {
    size_t widest = padded(a->width > a->value_width ? a->width : a->value_width);
    return sizeof(int32_t) * a->tokens + 2 * a->tokens + sizeof(float) * widest + 4 * 64;
}

static Head head_of(const Attention *a, int b, int h, char **memory) {
    int n = a->tokens, w = a->side, side = block_side(n), widest = a->width > a->value_width ? a->width : a->value_width;
    int32_t *key_offset = take(memory, sizeof(int32_t) * n);
    uint8_t *odd_keys = take(memory, n), *odd_values = take(memory, n);
    float *zeros = take(memory, sizeof(float) * padded(widest));
    memset(zeros, 0, sizeof(float) * padded(widest));
    for (int j = 0; j < n; j++) key_offset[j] = w ? -(j / w * (2 * w - 1) + j % w) : j * up_to(n, GROUP);
    Head head = {.q_row = a->q_stride[2], .k_row = a->k_stride[2], .v_row = a->v_stride[2], .grad_row = a->grad_stride[2],
                 .q = a->q + b * a->q_stride[0] + h * a->q_stride[1],
                 .k = a->k + b * a->k_stride[0] + h * a->k_stride[1],
                 .v = a->v + b * a->v_stride[0] + h * a->v_stride[1],
                 .bias = a->bias ? a->bias + h * bias_size(a) : NULL,
                 .run_stride = w ? 2 * w - 1 : side ? side : RUN, .key_offset = key_offset, .zeros = zeros};
    if (a->grad) head.grad = a->grad + b * a->grad_stride[0] + h * a->grad_stride[1];
    if (mark_odd_rows(head.k, head.k_row, n, a->width, odd_keys)) head.odd_keys = odd_keys;
    if (mark_odd_rows(head.v, head.v_row, n, a->value_width, odd_values)) head.odd_values = odd_values;
    head.most = a->bias ? largest_bias(a, head.bias) : 0.0f;
    head.longest = longest_row(head.k, head.k_row, n, a->width);
    return head;
}

/* --- one group of queries --- */

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

/* --- forward --- */

/* What the forward of a group fills: per lane the sum of exponentials and what their exponents were below. */
typedef struct {
    float *q, *sums, *scores; /* (D, GROUP), (D, GROUP), (CHUNK, GROUP) */
    vf total[VECTORS], base[VECTORS];
} Softmax;

static int bounded(const Attention *a, const Group *group, Softmax *s) {
    vf most = splat(0.0f);
    for (int j = 0; j < VECTORS; j++) {
        vf squares = splat(0.0f);
        for (int d = 0; d < a->width; d++) {
            vf x = load(s->q + d * GROUP + j * LANES);
            squares += x * x;
        }
        for (int i = 0; i < LANES; i++) s->base[j][i] = sqrtf(squares[i]) * group->head->longest + group->head->most;
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

/* Exponentials of a chunk below its maximum so far; what was summed before is brought down to it. */
static void weigh_chunk(const Attention *a, const uint32_t *bits, int count, Softmax *s) {
    for (int j = 0; j < VECTORS; j++) {
        float *column = s->scores + j * LANES;
        vf old = s->base[j], best = old;
        for (int c = 0; c < count; c++)
            best = larger(choose(bits[c] >> (j * LANES), load(column + c * GROUP), splat(-INFINITY)), best);
        vf low = larger(splat(-FLT_MAX), best), factor = exp2_of(old - low), sum = splat(0.0f);
        for (int c = 0; c < count; c++) {
            vf weight = keep(bits[c] >> (j * LANES), exp2_of(load(column + c * GROUP) - low));
            store(column + c * GROUP, weight);
            sum += weight;
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
    lanes_from_rows(group.rows, a->width, a->scale * LOG2E, s.q);
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

/* --- backward --- */

/* What the backward of a group works on. */
typedef struct {
    float *q, *grad, *dq;       /* (D, GROUP) */
    float *q_rows, *grad_rows;  /* (GROUP, D padded), zeros in place of rows that are not all finite */
    float *weights, *dscores;   /* (CHUNK, GROUP) */
    const float *grads[GROUP];  /* rows of the gradient, as `rows` of Group */
    vf lse[VECTORS], mean[VECTORS]; /* mean: over keys, weight times its gradient */
    uint32_t odd;               /* lanes whose rows are not all finite */
} Gradient;

/* Weights of some keys and the gradients of their scores. */
INLINE void backward_tile(const Attention *a, const Group *group, int rows, int at, const Gradient *s, float *weights,
                          float *dscores) {
    vf sum[ROWS][VECTORS];
    const float *v[ROWS];
    const uint32_t *bits = group->bits + at;
    score(group, a->width, rows, group->keys + at, s->q, s->lse, sum);
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < VECTORS; j++)
            store(weights + r * GROUP + j * LANES, keep(bits[r] >> (j * LANES), exp2_of(sum[r][j])));
    UNROLL for (int r = 0; r < rows; r++) {
        v[r] = group->head->v + group->keys[at + r] * group->head->v_row;
        UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = -s->mean[j];
    }
    for (int d = 0; d < a->value_width; d++) {
        vf x[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) x[j] = load_once(s->grad + d * GROUP + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vf y = splat(v[r][d]);
            UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] += y * x[j];
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) {
            vf dscore = sum[r][j] * load(weights + r * GROUP + j * LANES);
            store(dscores + r * GROUP + j * LANES, keep(bits[r] >> (j * LANES), dscore));
        }
}

static void backward_tiles(const Attention *a, const Group *group, int at, int count, const Gradient *s) {
    int c = 0;
    for (; c + ROWS <= count; c += ROWS)
        backward_tile(a, group, ROWS, at + c, s, s->weights + c * GROUP, s->dscores + c * GROUP);
    for (; c < count; c += STEP)
        backward_tile(a, group, STEP, at + c, s, s->weights + c * GROUP, s->dscores + c * GROUP);
}

/* to[r][d] += sum over lanes of w[r][lane] from[lane][d], for one or two vectors of channels. */
INLINE void add_outer_tile(int rows, int vectors, const float *w, const float *from, int stride, float *const *to, int d) {
    vf sum[ROWS][2];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = load(to[r] + d + j * LANES);
    for (int lane = 0; lane < GROUP; lane++) {
        vf x[2];
        UNROLL for (int j = 0; j < vectors; j++) x[j] = load_once(from + lane * stride + d + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vf y = splat(w[r * GROUP + lane]);
            UNROLL for (int j = 0; j < vectors; j++) sum[r][j] += y * x[j];
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

/* Rows of keys += w from: w (count, GROUP), from (GROUP, width), width whole vectors. */
static void add_outer(int count, int width, const float *w, const float *from, float *const *to) {
    int c = 0;
    for (; c + ROWS <= count; c += ROWS) add_outer_rows(ROWS, width, w + c * GROUP, from, to + c);
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        if (n < ROWS) add_outer_rows(n, width, w + c * GROUP, from, to + c);                                 \
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
            float weight = s->weights[c * GROUP + lane], dscore = s->dscores[c * GROUP + lane] * a->scale;
            for (int d = 0; d < a->width; d++) dk[c][d] += dscore * group->rows[lane][d];
            for (int d = 0; d < a->value_width; d++) dv[c][d] += weight * s->grads[lane][d];
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

/* Copy the rows of a group, with zeros behind them and in place of those that are not all finite. */
static uint32_t finite_rows(const float *const *rows, int width, float factor, float *to) {
    uint32_t odd = 0;
    for (int lane = 0; lane < GROUP; lane++) {
        uint8_t mark;
        for (int d = 0; d < width; d += LANES)
            store(to + lane * padded(width) + d, load_channels(rows[lane], d, width) * splat(factor));
        if (!mark_odd_rows(rows[lane], 0, 1, width, &mark)) continue;
        memset(to + lane * padded(width), 0, sizeof(float) * padded(width));
        odd |= 1u << lane;
    }
    return odd;
}

static size_t backward_scratch(const Attention *a) {
    size_t rows = 3 * padded(a->width) + 2 * padded(a->value_width) + 2 * CHUNK;
    return head_scratch(a) + sizeof(float) * rows * GROUP + 8 * 64;
}

static Gradient gradient_of(const Attention *a, const Group *group, int b, int h, char *memory) {
    size_t bytes = sizeof(float) * padded(a->width) * GROUP, value_bytes = sizeof(float) * padded(a->value_width) * GROUP;
    Gradient s = {.q = take(&memory, bytes), .q_rows = take(&memory, bytes), .dq = take(&memory, bytes),
                  .grad = take(&memory, value_bytes), .grad_rows = take(&memory, value_bytes),
                  .weights = take(&memory, sizeof(float) * CHUNK * GROUP),
                  .dscores = take(&memory, sizeof(float) * CHUNK * GROUP)};
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
            products[j][i] += load_channels(s.grads[lane], d, a->value_width) *
                              load_channels(out + token * a->out_stride[2], d, a->value_width);
    }
    for (int j = 0; j < VECTORS; j++) s.mean[j] = sums_of(products[j]);
    lanes_from_rows(group->rows, a->width, a->scale * LOG2E, s.q);
    lanes_from_rows(s.grads, a->value_width, 1.0f, s.grad);
    s.odd = finite_rows(group->rows, a->width, a->scale, s.q_rows);
    s.odd |= finite_rows(s.grads, a->value_width, 1.0f, s.grad_rows);
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
        const float *k[CHUNK];
        float *dk[CHUNK], *dv[CHUNK];
        for (int c = 0; c < count; c++) {
            dk[c] = to->dk + (ptrdiff_t)keys[c] * width;
            dv[c] = to->dv + (ptrdiff_t)keys[c] * value_width;
        }
        backward_tiles(a, &group, at, count, &s);
        if (to->dbias) add_bias_gradient(&group, at, count, s.dscores, to->dbias);
        rows_of(head->k, head->k_row, head->odd_keys, head->zeros, keys, count, k);
        add_product(a->width, count, k, s.dscores, s.dq);
        add_odd_rows(head->k, head->k_row, head->odd_keys, keys, group.bits + at, a->width, count, s.dscores, s.dq);
        add_outer(count, value_width, s.weights, s.grad_rows, dv);
        add_outer(count, width, s.dscores, s.q_rows, dk);
        if (s.odd) add_odd_queries(a, &group, at, count, &s, dk, dv);
    }
    for (int j = 0; j < VECTORS; j++) s.mean[j] = splat(a->scale);
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

/* --- transposition of dense biases --- */

typedef struct {
    int rows, columns, from_stride, to_stride;
    const float *from;
    float *to;
} Transposition;

#define BLOCK 64 /* rows that stay in the cache while their columns are written */

static void transpose_task(const void *arguments, int task, void *scratch) {
    const Transposition *t = arguments;
    int blocks = (t->to_stride + BLOCK - 1) / BLOCK, first = task % blocks * BLOCK;
    int stop = first + BLOCK < t->to_stride ? first + BLOCK : t->to_stride;
    const float *from = t->from + (ptrdiff_t)(task / blocks) * t->rows * t->from_stride;
    float *to = t->to + (ptrdiff_t)(task / blocks) * t->columns * t->to_stride;
    (void)scratch;
    for (int j = 0; j < t->columns; j++)
        for (int i = first; i < stop; i++)
            to[(ptrdiff_t)j * t->to_stride + i] = i < t->rows ? from[(ptrdiff_t)i * t->from_stride + j] : 0.0f;
}

/* --- what Python calls; 1 where memory ran out, else 0 --- */

int lane_count(void) { return LANES; }
int group_size(void) { return GROUP; }
int list_step(void) { return STEP; }
/* Whether a table of bias can be read: then the queries of a run stand in one row of the window. */
int reads_tables(int tokens) { return block_side(tokens) != 0; }

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
