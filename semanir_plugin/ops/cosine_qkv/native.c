/* The heads of scaled cosine attention, from a joint projection and back, in one pass each.
 *
 * Layouts: qkv and its gradient (B, N, 3, H, D) contiguous; q, k, v contiguous (B, H, N, D); their gradients alike, by
 * strides in elements, the last one 1. */
#include "numbers.h"
#include "threads.h"

#define TOKENS_PER_TASK 64
#define SHORTEST 1e-12f

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
    for (int d = 0; d < width; d += LANES) sum += channels_of(a, d, width) * channels_of(b, d, width);
    return total_of(sum);
}

INLINE void scaled(const number *from, float factor, int width, number *to) {
    for (int d = 0; d < width; d += LANES) store_numbers(to, d, width, channels_of(from, d, width) * splat(factor));
}

/* The gradient of `scale` x / |x| for x, from that for the result; returns the one for `scale`. */
INLINE float unit_gradient(const number *x, const number *grad, float scale, int width, number *to) {
    float length = sqrtf(dot(x, x, width)), inverse = 1.0f / (length < SHORTEST ? SHORTEST : length);
    float along = dot(x, grad, width) * inverse; /* part of the gradient that only lengthens x */
    float factor = scale * inverse, back = length < SHORTEST ? 0.0f : factor * along * inverse;
    for (int d = 0; d < width; d += LANES) {
        vf across = splat(factor) * channels_of(grad, d, width) - splat(back) * channels_of(x, d, width);
        store_numbers(to, d, width, across);
    }
    return along;
}

static int tasks_per_window(int tokens) { return (tokens + TOKENS_PER_TASK - 1) / TOKENS_PER_TASK; }

static void split_task(const void *arguments, int task, void *scratch) {
    const Split *a = arguments;
    int parts = tasks_per_window(a->tokens), b = task / parts, first = task % parts * TOKENS_PER_TASK;
    int last = first + TOKENS_PER_TASK < a->tokens ? first + TOKENS_PER_TASK : a->tokens, width = a->width;
    (void)scratch;
    for (int n = first; n < last; n++)
        for (int h = 0; h < a->heads; h++) {
            const number *q = a->qkv + (((ptrdiff_t)b * a->tokens + n) * 3 * a->heads + h) * width;
            const number *k = q + (ptrdiff_t)a->heads * width, *v = k + (ptrdiff_t)a->heads * width;
            ptrdiff_t to = (((ptrdiff_t)b * a->heads + h) * a->tokens + n) * width;
            float q_length = sqrtf(dot(q, q, width)), k_length = sqrtf(dot(k, k, width));
            scaled(q, a->scale[h] / (q_length < SHORTEST ? SHORTEST : q_length), width, a->q + to);
            scaled(k, 1.0f / (k_length < SHORTEST ? SHORTEST : k_length), width, a->k + to);
            memcpy(a->v + to, v, sizeof(number) * width);
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
            memcpy(a->dqkv + v, dv, sizeof(number) * width);
        }
}

int task_count(int batch, int tokens) { return batch * tasks_per_window(tokens); }

int split(const Split *a, int threads) { return run_tasks(split_task, a, task_count(a->batch, a->tokens), threads, 0); }

/* Given what `split` was and the gradients of what it gave: fill dqkv, and dscale, whose rows are to be added. */
int join(const Split *a, int threads) { return run_tasks(join_task, a, task_count(a->batch, a->tokens), threads, 0); }
