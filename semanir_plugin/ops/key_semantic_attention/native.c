/* Key-semantic attention on CPUs: each group of neighbouring queries meets only the keys that one of them chose.
 *
 * Lanes are queries. For a group of queries and a key that any of them chose, one word of bits tells which did; keys
 * that none chose are never touched, so time follows k. Scores of a chunk of keys stay in the first-level cache and are
 * used at once; the backward computes them again. All in fp32; exponentials to base 2, with log2(e) in q and bias.
 *
 * Layouts: q, k, v, grad, out (B, H, N, D) by strides in elements, the last one 1; dq, dk, dv contiguous alike;
 * mask (B, N, N) bytes; lse (B, H, N), to base 2; bias none, a table (H, 2w - 1, 2w - 1), or dense and transposed,
 * (H, N keys, N queries). */
#include "vectors.h"

#define CHUNK 128 /* keys whose scores are held at once */
#define LOG2E 1.44269504088896340736f

typedef struct {
    int batch, heads, tokens, width, side; /* side: w of the table, 0 where the bias is dense */
    float scale;
    ptrdiff_t q_stride[3], k_stride[3], v_stride[3], grad_stride[3], out_stride[3];
    const float *q, *k, *v, *bias, *grad;
    const uint8_t *mask;
    float *out, *lse;
    float *dq, *dk, *dv, *dbias; /* dbias: (splits, ...) as bias, zeros */
    int splits;                  /* forward: parts of a window's queries; backward: parts of the batch */
} Attention;

/* The keys that a group of queries uses, and which of them use each. */
typedef struct {
    int count;
    uint32_t *bits;
    int *keys;
} Used;

static int padded_width(const Attention *a) { return (a->width + LANES - 1) / LANES * LANES; }

static void *take(char **memory, size_t bytes) {
    void *taken = *memory;
    *memory += (bytes + 63) / 64 * 64;
    return taken;
}

static void find_used(const Attention *a, int b, int first, Used *used) {
    int n = a->tokens, rows = n - first < GROUP ? n - first : GROUP, count = 0;
    uint32_t *bits = used->bits;
    const uint8_t *mask = a->mask + ((ptrdiff_t)b * n + first) * n;
    memset(bits, 0, sizeof(*bits) * n);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < n; j++) bits[j] |= (uint32_t)mask[(ptrdiff_t)r * n + j] << r;
    for (int j = 0; j < n; j++) {
        uint32_t word = bits[j];
        bits[count] = word; /* count <= j: what is overwritten was read */
        used->keys[count] = j;
        count += word != 0;
    }
    used->count = count;
}

/* Copy rows [first, first + rows) of one head into `to`, (rows, stride), factor applied, zeros behind. */
static void copy_rows(const float *from, ptrdiff_t row_stride, int rows, int width, int stride, float factor, float *to) {
    for (int i = 0; i < rows; i++) {
        for (int d = 0; d < width; d++) to[(ptrdiff_t)i * stride + d] = from[i * row_stride + d] * factor;
        for (int d = width; d < stride; d++) to[(ptrdiff_t)i * stride + d] = 0.0f;
    }
}

/* The same for a group of queries, transposed: (width, GROUP), zeros where there is no query. */
static void copy_group(const float *from, ptrdiff_t row_stride, int rows, int width, float factor, float *to) {
    for (int d = 0; d < width; d++)
        for (int i = 0; i < GROUP; i++) to[d * GROUP + i] = i < rows ? from[i * row_stride + d] * factor : 0.0f;
}

/* Where the bias of one key and the lanes of one vector of queries begins. Queries of a vector stand in one row of the
 * window, or its table is not used (see `native_backend.py`). */
INLINE ptrdiff_t bias_offset(const Attention *a, int key, int query) {
    if (!a->side) return (ptrdiff_t)key * a->tokens + query;
    int w = a->side, rows = query / w - key / w + w - 1;
    return (ptrdiff_t)rows * (2 * w - 1) + query % w - key % w + w - 1;
}

static ptrdiff_t bias_size(const Attention *a) {
    return a->side ? (ptrdiff_t)(2 * a->side - 1) * (2 * a->side - 1) : (ptrdiff_t)a->tokens * a->tokens;
}

/* scores[c] = q . k + bias, to base 2, for `count` keys. */
static void score(const Attention *a, int h, const float *q, const float *k, int first, const int *keys, int count,
                  float *scores) {
    const float *rows[CHUNK];
    float *targets[CHUNK];
    int stride = padded_width(a);
    for (int c = 0; c < count; c++) {
        rows[c] = k + (ptrdiff_t)keys[c] * stride;
        targets[c] = scores + c * GROUP;
    }
    times_group(count, a->width, rows, q, targets);
    if (!a->bias) return;
    const float *bias = a->bias + h * bias_size(a);
    for (int half = 0; half < 2; half++) {
        int query = first + half * LANES, left = a->tokens - query;
        if (left <= 0) return;
        for (int c = 0; c < count; c++) {
            float *p = scores + c * GROUP + half * LANES;
            const float *from = bias + bias_offset(a, keys[c], query);
            vf x;
            if (left >= LANES) {
                x = load(from);
            } else {
                x = splat(0.0f);
                memcpy(&x, from, sizeof(float) * left);
            }
            store(p, load(p) + x * splat(LOG2E));
        }
    }
}

static void forward_group(const Attention *a, int b, int h, int first, const Used *used, const float *k, const float *v,
                          char *memory) {
    int width = a->width, n = a->tokens, rows = n - first < GROUP ? n - first : GROUP, stride = padded_width(a);
    float *q = take(&memory, sizeof(float) * width * GROUP);
    float *sums = take(&memory, sizeof(float) * width * GROUP); /* (D, GROUP) */
    float *scores = take(&memory, sizeof(float) * CHUNK * GROUP);
    const float *from = a->q + b * a->q_stride[0] + h * a->q_stride[1] + first * a->q_stride[2];
    copy_group(from, a->q_stride[2], rows, width, a->scale * LOG2E, q);
    memset(sums, 0, sizeof(float) * width * GROUP);
    vf top[2], total[2];
    for (int i = 0; i < 2; i++) top[i] = splat(-INFINITY), total[i] = splat(0.0f);
    for (int start = 0; start < used->count; start += CHUNK) {
        int count = used->count - start < CHUNK ? used->count - start : CHUNK;
        const float *values[CHUNK];
        score(a, h, q, k, first, used->keys + start, count, scores);
        for (int i = 0; i < 2; i++) {
            float *column = scores + i * LANES;
            vf old = top[i], best = old;
            for (int c = 0; c < count; c++) {
                vi kept = lanes_of(used->bits[start + c] >> (i * LANES));
                best = larger(pick(kept, load(column + c * GROUP), splat(-INFINITY)), best);
            }
            vf base = pick(best == splat(-INFINITY), splat(0.0f), best), factor = exp2_of(old - base);
            vf sum = splat(0.0f);
            for (int c = 0; c < count; c++) {
                vi kept = lanes_of(used->bits[start + c] >> (i * LANES));
                vf weight = (vf)((vi)exp2_of(load(column + c * GROUP) - base) & kept);
                store(column + c * GROUP, weight);
                sum += weight;
            }
            total[i] = total[i] * factor + sum;
            top[i] = best;
            if (start)
                for (int d = 0; d < width; d++) {
                    float *p = sums + d * GROUP + i * LANES;
                    store(p, load(p) * factor);
                }
        }
        for (int c = 0; c < count; c++) values[c] = v + (ptrdiff_t)used->keys[start + c] * stride;
        add_transposed(width, count, values, scores, sums);
    }
    float *out = a->out + b * a->out_stride[0] + h * a->out_stride[1] + first * a->out_stride[2];
    float *lse = a->lse + ((ptrdiff_t)b * a->heads + h) * n + first;
    for (int i = 0; i < rows; i++) {
        float all = total[i / LANES][i % LANES], best = top[i / LANES][i % LANES];
        lse[i] = (best == -INFINITY ? 0.0f : best) + log2f(all);
        for (int d = 0; d < width; d++) out[i * a->out_stride[2] + d] = sums[d * GROUP + i] / all;
    }
}

static size_t forward_scratch(const Attention *a) {
    size_t n = a->tokens, d = padded_width(a);
    return 4 * (2 * n * d + 2 * n + 2 * d * GROUP + CHUNK * GROUP) + 16 * 64;
}

static void forward_task(const void *arguments, int task, void *scratch) {
    const Attention *a = arguments;
    int n = a->tokens, d = padded_width(a), part = task % a->splits, h = task / a->splits % a->heads;
    int b = task / a->splits / a->heads, groups = (n + GROUP - 1) / GROUP;
    char *memory = scratch;
    float *k = take(&memory, sizeof(float) * n * d), *v = take(&memory, sizeof(float) * n * d);
    Used used = {0, take(&memory, sizeof(uint32_t) * n), take(&memory, sizeof(int) * n)};
    copy_rows(a->k + b * a->k_stride[0] + h * a->k_stride[1], a->k_stride[2], n, a->width, d, 1.0f, k);
    copy_rows(a->v + b * a->v_stride[0] + h * a->v_stride[1], a->v_stride[2], n, a->width, d, 1.0f, v);
    for (int g = groups * part / a->splits; g < groups * (part + 1) / a->splits; g++) {
        find_used(a, b, g * GROUP, &used);
        forward_group(a, b, h, g * GROUP, &used, k, v, memory);
    }
}

/* What the backward of one head keeps: rows of k and v and the gradients of both, (N, D) padded. */
typedef struct {
    float *k, *v, *dk, *dv, *dbias;
} Head;

static void add_bias_gradient(const Attention *a, float *dbias, int first, const int *keys, int count,
                              const float *dscores) {
    for (int half = 0; half < 2; half++) {
        int query = first + half * LANES, left = a->tokens - query;
        for (int c = 0; c < count && left > 0; c++) {
            float *p = dbias + bias_offset(a, keys[c], query);
            const float *from = dscores + c * GROUP + half * LANES;
            if (left >= LANES)
                store(p, load(p) + load(from));
            else
                for (int i = 0; i < left; i++) p[i] += from[i];
        }
    }
}

static void backward_group(const Attention *a, int b, int h, int first, const Used *used, const Head *head,
                           char *memory) {
    int width = a->width, n = a->tokens, rows = n - first < GROUP ? n - first : GROUP, stride = padded_width(a);
    size_t group_bytes = sizeof(float) * stride * GROUP;
    float *q = take(&memory, group_bytes), *grad = take(&memory, group_bytes), *dq = take(&memory, group_bytes);
    float *q_rows = take(&memory, group_bytes), *grad_rows = take(&memory, group_bytes);
    float *weights = take(&memory, sizeof(float) * CHUNK * GROUP), *dscores = take(&memory, sizeof(float) * CHUNK * GROUP);
    float *lse = take(&memory, sizeof(float) * GROUP), *mean = take(&memory, sizeof(float) * GROUP);
    const float *q_from = a->q + b * a->q_stride[0] + h * a->q_stride[1] + first * a->q_stride[2];
    const float *grad_from = a->grad + b * a->grad_stride[0] + h * a->grad_stride[1] + first * a->grad_stride[2];
    const float *out = a->out + b * a->out_stride[0] + h * a->out_stride[1] + first * a->out_stride[2];
    ptrdiff_t row = ((ptrdiff_t)b * a->heads + h) * n + first;
    copy_group(q_from, a->q_stride[2], rows, width, a->scale * LOG2E, q);
    copy_group(grad_from, a->grad_stride[2], rows, width, 1.0f, grad);
    memset(q_rows, 0, group_bytes);
    memset(grad_rows, 0, group_bytes);
    memset(dq, 0, group_bytes);
    copy_rows(q_from, a->q_stride[2], rows, width, stride, a->scale, q_rows);
    copy_rows(grad_from, a->grad_stride[2], rows, width, stride, 1.0f, grad_rows);
    for (int i = 0; i < GROUP; i++) {
        lse[i] = i < rows ? a->lse[row + i] : 0.0f;
        mean[i] = 0.0f; /* over keys: weight times its gradient */
        for (int d = 0; i < rows && d < width; d++) mean[i] += grad_rows[i * stride + d] * out[i * a->out_stride[2] + d];
    }
    for (int start = 0; start < used->count; start += CHUNK) {
        int count = used->count - start < CHUNK ? used->count - start : CHUNK;
        const int *keys = used->keys + start;
        const float *k[CHUNK], *v[CHUNK], *weight_rows[CHUNK], *dscore_rows[CHUNK];
        float *targets[CHUNK], *dk[CHUNK], *dv[CHUNK];
        for (int c = 0; c < count; c++) {
            ptrdiff_t offset = (ptrdiff_t)keys[c] * stride;
            k[c] = head->k + offset, v[c] = head->v + offset, dk[c] = head->dk + offset, dv[c] = head->dv + offset;
            weight_rows[c] = weights + c * GROUP;
            dscore_rows[c] = targets[c] = dscores + c * GROUP;
        }
        score(a, h, q, head->k, first, keys, count, weights);
        times_group(count, width, v, grad, targets);
        for (int i = 0; i < 2; i++)
            for (int c = 0; c < count; c++) {
                vi kept = lanes_of(used->bits[start + c] >> (i * LANES));
                float *w = weights + c * GROUP + i * LANES, *g = dscores + c * GROUP + i * LANES;
                vf weight = (vf)((vi)exp2_of(load(w) - load(lse + i * LANES)) & kept);
                store(w, weight);
                store(g, weight * (load(g) - load(mean + i * LANES)));
            }
        if (head->dbias) add_bias_gradient(a, head->dbias, first, keys, count, dscores);
        add_transposed(width, count, k, dscores, dq);
        add_outer(count, stride, weight_rows, grad_rows, dv);
        add_outer(count, stride, dscore_rows, q_rows, dk);
    }
    for (int i = 0; i < rows; i++)
        for (int d = 0; d < width; d++) a->dq[(row + i) * width + d] = dq[d * GROUP + i] * a->scale;
}

static size_t backward_scratch(const Attention *a) {
    size_t n = a->tokens, d = padded_width(a);
    return 4 * (4 * n * d + 2 * n + 5 * d * GROUP + 2 * CHUNK * GROUP + 2 * GROUP) + 32 * 64;
}

/* A task owns one head in one part of the batch: its share of dbias is summed in a fixed order, so runs agree. */
static void backward_task(const void *arguments, int task, void *scratch) {
    const Attention *a = arguments;
    int n = a->tokens, d = padded_width(a), h = task % a->heads, part = task / a->heads;
    char *memory = scratch;
    size_t bytes = sizeof(float) * n * d;
    Head head = {take(&memory, bytes), take(&memory, bytes), take(&memory, bytes), take(&memory, bytes), NULL};
    Used used = {0, take(&memory, sizeof(uint32_t) * n), take(&memory, sizeof(int) * n)};
    if (a->dbias) head.dbias = a->dbias + ((ptrdiff_t)part * a->heads + h) * bias_size(a);
    int stop = (int)((int64_t)a->batch * (part + 1) / a->splits);
    for (int b = (int)((int64_t)a->batch * part / a->splits); b < stop; b++) {
        copy_rows(a->k + b * a->k_stride[0] + h * a->k_stride[1], a->k_stride[2], n, a->width, d, 1.0f, head.k);
        copy_rows(a->v + b * a->v_stride[0] + h * a->v_stride[1], a->v_stride[2], n, a->width, d, 1.0f, head.v);
        memset(head.dk, 0, bytes);
        memset(head.dv, 0, bytes);
        for (int first = 0; first < n; first += GROUP) {
            find_used(a, b, first, &used);
            backward_group(a, b, h, first, &used, &head, memory);
        }
        ptrdiff_t offset = ((ptrdiff_t)b * a->heads + h) * n * a->width;
        for (int i = 0; i < n; i++) {
            memcpy(a->dk + offset + (ptrdiff_t)i * a->width, head.dk + (ptrdiff_t)i * d, sizeof(float) * a->width);
            memcpy(a->dv + offset + (ptrdiff_t)i * a->width, head.dv + (ptrdiff_t)i * d, sizeof(float) * a->width);
        }
    }
}

typedef struct {
    int heads, tokens;
    const float *from;
    float *to;
} Transposition;

#define BLOCK 64 /* rows that stay in the cache while their columns are written */

static void transpose_task(const void *arguments, int task, void *scratch) {
    const Transposition *t = arguments;
    int n = t->tokens, blocks = (n + BLOCK - 1) / BLOCK, first = task % blocks * BLOCK;
    int stop = first + BLOCK < n ? first + BLOCK : n;
    ptrdiff_t head = (ptrdiff_t)(task / blocks) * n * n;
    (void)scratch;
    for (int j = 0; j < n; j++)
        for (int i = first; i < stop; i++) t->to[head + (ptrdiff_t)j * n + i] = t->from[head + (ptrdiff_t)i * n + j];
}

int lane_count(void) { return LANES; }

/* Transpose the matrices of (heads, tokens, tokens). */
int transpose(int heads, int tokens, const float *from, float *to, int threads) {
    Transposition t = {heads, tokens, from, to};
    return run_tasks(transpose_task, &t, heads * ((tokens + BLOCK - 1) / BLOCK), threads, 0);
}

int attention_forward(const Attention *a, int threads) {
    return run_tasks(forward_task, a, a->batch * a->heads * a->splits, threads, forward_scratch(a));
}

int attention_backward(const Attention *a, int threads) {
    return run_tasks(backward_task, a, a->heads * a->splits, threads, backward_scratch(a));
}
