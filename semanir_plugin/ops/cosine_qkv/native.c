/* The heads of scaled cosine attention, from a joint projection and back, in one pass each.
 *
 * Layouts: qkv and its gradient (B, N, 3, H, D) contiguous; q, k, v contiguous (B, H, N, D); their gradients alike, by
 * strides in elements, the last one 1. */
#include "numbers.h"
#include "threads.h"

#define TOKENS_PER_TASK 64
#define SHORTEST 1e-12f
/* Tokens at a time: what one waits for, the others compute meanwhile. */
#define TOGETHER 8

typedef struct {
    int batch, heads, tokens, width;
    ptrdiff_t dq_stride[3], dk_stride[3], dv_stride[3];
    const number *qkv;
    const float *scale; /* (H,) */
    number *q, *k, *v;
    const number *dq, *dk, *dv;
    number *dqkv;
    float *dscale; /* (tasks, H) */
} Split;

/* The sum of a[d] b[d]. */
INLINE float dot(const number *a, const number *b, int width) {
    vf sum = splat(0.0f);
    EACH_VECTOR(width, sum += numbers_at(a + d, rest) * numbers_at(b + d, rest));
    return total_of(sum);
}

INLINE void scaled(const number *from, float factor, int width, number *to) {
    EACH_VECTOR(width, put(to + d, rest, numbers_at(from + d, rest) * splat(factor)));
}

INLINE void copied(const number *from, int width, number *to) {
    EACH_VECTOR(width, put(to + d, rest, numbers_at(from + d, rest)));
}

/* The gradient of `scale` x / |x| for x, from that for the result; returns the one for `scale`. */
INLINE float unit_gradient(const number *x, const number *grad, float scale, int width, number *to) {
    float length = sqrtf(dot(x, x, width)), inverse = 1.0f / (length < SHORTEST ? SHORTEST : length);
    float along = dot(x, grad, width) * inverse; /* part of the gradient that only lengthens x */
    float factor = scale * inverse, back = length < SHORTEST ? 0.0f : factor * along * inverse;
    EACH_VECTOR(width, {
        vf across = splat(factor) * numbers_at(grad + d, rest) - splat(back) * numbers_at(x + d, rest);
        put(to + d, rest, across);
    });
    return along;
}

static int tasks_per_window(int tokens) { return (tokens + TOKENS_PER_TASK - 1) / TOKENS_PER_TASK; }

/* `factors`: of each token, for its queries and keys, what gives them the `lengths` they shall have. */
static void find_factors(const number *qkv, int tokens, int heads, int width, const float *lengths, float *factors) {
    int both = padded(2 * heads);
    for (int n = 0; n < tokens; n++, qkv += 3 * heads * width)
        for (int i = 0; i < 2 * heads; i++) factors[n * both + i] = dot(qkv + i * width, qkv + i * width, width);
    for (int n = 0; n < tokens; n++)
        for (int i = 0; i < both; i += LANES) {
            vf length = larger(splat(SHORTEST), root_of(load(factors + n * both + i)));
            store(factors + n * both + i, load(lengths + i) / length);
        }
}

static void split_task(const void *arguments, int task, void *scratch) {
    const Split *a = arguments;
    int parts = tasks_per_window(a->tokens), b = task / parts, first = task % parts * TOKENS_PER_TASK;
    int last = first + TOKENS_PER_TASK < a->tokens ? first + TOKENS_PER_TASK : a->tokens, width = a->width;
    int heads = a->heads, both = padded(2 * heads); /* queries and keys */
    ptrdiff_t next_head = (ptrdiff_t)a->tokens * width;
    float *lengths = scratch, *factors = lengths + both;
    for (int i = 0; i < both; i++) lengths[i] = i < heads ? a->scale[i] : 1.0f;
    memset(factors, 0, sizeof(float) * TOGETHER * (size_t)both);
    for (int n = first; n < last; n++) {
        const number *row = a->qkv + ((ptrdiff_t)b * a->tokens + n) * 3 * heads * width;
        const float *factor = factors + (n - first) % TOGETHER * both;
        ptrdiff_t to = ((ptrdiff_t)b * heads * a->tokens + n) * width;
        if (factor == factors)
            find_factors(row, last - n < TOGETHER ? last - n : TOGETHER, heads, width, lengths, factors);
        for (int h = 0; h < heads; h++, row += width, to += next_head) {
            scaled(row, factor[h], width, a->q + to);
            scaled(row + heads * width, factor[heads + h], width, a->k + to);
            copied(row + 2 * heads * width, width, a->v + to);
        }
    }
}

static void join_task(const void *arguments, int task, void *scratch) {
    const Split *a = arguments;
    int parts = tasks_per_window(a->tokens), b = task / parts, first = task % parts * TOKENS_PER_TASK;
    int last = first + TOKENS_PER_TASK < a->tokens ? first + TOKENS_PER_TASK : a->tokens, width = a->width;
    float *dscale = a->dscale + (ptrdiff_t)task * a->heads;
    (void)scratch;
    for (int h = 0; h < a->heads; h++) dscale[h] = 0.0f;
    for (int n = first; n < last; n++)
        for (int h = 0; h < a->heads; h++) {
            ptrdiff_t q = (((ptrdiff_t)b * a->tokens + n) * 3 * a->heads + h) * width;
            ptrdiff_t k = q + (ptrdiff_t)a->heads * width, v = k + (ptrdiff_t)a->heads * width;
            const number *dq = a->dq + b * a->dq_stride[0] + h * a->dq_stride[1] + n * a->dq_stride[2];
            const number *dk = a->dk + b * a->dk_stride[0] + h * a->dk_stride[1] + n * a->dk_stride[2];
            const number *dv = a->dv + b * a->dv_stride[0] + h * a->dv_stride[1] + n * a->dv_stride[2];
            dscale[h] += unit_gradient(a->qkv + q, dq, a->scale[h], width, a->dqkv + q);
            unit_gradient(a->qkv + k, dk, 1.0f, width, a->dqkv + k);
            copied(dv, width, a->dqkv + v);
        }
}

/* What Python's copy of `Split` is compared with. */
int structure_size(void) { return sizeof(Split); }
int last_offset(void) { return offsetof(Split, dscale); }

int task_count(int batch, int tokens) { return batch * tasks_per_window(tokens); }

int split(const Split *a, int threads) {
    size_t scratch = sizeof(float) * (1 + TOGETHER) * (size_t)padded(2 * a->heads);
    return run_tasks(split_task, a, task_count(a->batch, a->tokens), threads, scratch);
}

/* Given what `split` was and the gradients of what it gave: fill dqkv, and dscale, whose rows are to be added. */
int join(const Split *a, int threads) { return run_tasks(join_task, a, task_count(a->batch, a->tokens), threads, 0); }
