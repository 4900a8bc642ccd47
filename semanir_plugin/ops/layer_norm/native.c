/* Layer normalisation of rows, and what is added to it, in one pass over memory: a row stays in the first-level cache.
 *
 * Layouts: x, residual, grad, out contiguous (rows, width) numbers; weight and bias (width) floats. */
#include <math.h>

#include "numbers.h"
#include "threads.h"

/* Whatever the number of threads: the sums over rows are of these parts. */
#define ROWS_PER_TASK 256

typedef struct {
    int rows, width;
    float eps;
    const number *x, *residual, *grad; /* residual may be NULL */
    const float *weight, *bias;
    number *out;  /* the result, or in the backward the gradient of x */
    float *sums;  /* (tasks, 2, width): of the gradients of weight and bias */
} LayerNorm;

/* Rows at a time: what one waits for, the others compute meanwhile. */
#define TOGETHER 4

typedef struct {
    float mean[TOGETHER], scale[TOGETHER]; /* scale: one over the deviation */
} Moments;

/* Channels less their mean, zeros behind the end of the row. */
INLINE vf centred(const number *p, int rest, float mean) {
    vf x = numbers_at(p, rest) - splat(mean);
    return rest ? keep((1u << rest) - 1, x) : x;
}

/* Of `rows` rows, a constant. */
INLINE Moments moments_of(const LayerNorm *a, const number *x, int rows) {
    vf sum[TOGETHER], squares[TOGETHER];
    Moments m;
    UNROLL for (int r = 0; r < rows; r++) sum[r] = squares[r] = splat(0.0f);
    EACH_VECTOR(a->width, UNROLL for (int r = 0; r < rows; r++) sum[r] += numbers_at(x + r * a->width + d, rest));
    UNROLL for (int r = 0; r < rows; r++) m.mean[r] = total_of(sum[r]) / (float)a->width;
    EACH_VECTOR(a->width, UNROLL for (int r = 0; r < rows; r++) {
        vf each = centred(x + r * a->width + d, rest, m.mean[r]);
        squares[r] += each * each;
    });
    UNROLL for (int r = 0; r < rows; r++)
        m.scale[r] = 1.0f / sqrtf(total_of(squares[r]) / (float)a->width + a->eps);
    return m;
}

INLINE void normalise_rows(const LayerNorm *a, ptrdiff_t first, int rows) {
    const number *x = a->x + first * a->width, *residual = a->residual ? a->residual + first * a->width : NULL;
    number *out = a->out + first * a->width;
    Moments m = moments_of(a, x, rows);
    EACH_VECTOR(a->width, {
        vf weight = floats_at(a->weight + d, rest), bias = floats_at(a->bias + d, rest);
        UNROLL for (int r = 0; r < rows; r++) {
            vf y = centred(x + r * a->width + d, rest, m.mean[r]) * splat(m.scale[r]) * weight + bias;
            if (residual) y += numbers_at(residual + r * a->width + d, rest);
            put(out + r * a->width + d, rest, y);
        }
    });
}

/* `sums`: of the gradients of weight and bias, each padded to `whole` channels. */
INLINE void differentiate_rows(const LayerNorm *a, ptrdiff_t first, int rows, float *sums, int whole) {
    const number *x = a->x + first * a->width, *grad = a->grad + first * a->width;
    number *dx = a->out + first * a->width;
    Moments m = moments_of(a, x, rows);
    vf shift[TOGETHER], along[TOGETHER];
    UNROLL for (int r = 0; r < rows; r++) shift[r] = along[r] = splat(0.0f);
    EACH_VECTOR(a->width, {
        vf weight = floats_at(a->weight + d, rest), dweight = load(sums + d), dbias = load(sums + whole + d);
        UNROLL for (int r = 0; r < rows; r++) {
            vf unit = centred(x + r * a->width + d, rest, m.mean[r]) * splat(m.scale[r]);
            vf g = numbers_at(grad + r * a->width + d, rest);
            dweight += g * unit;
            dbias += g;
            shift[r] += g * weight;
            along[r] += g * weight * unit;
        }
        store(sums + d, dweight);
        store(sums + whole + d, dbias);
    });
    /* What only shifts or lengthens a row changes nothing in the result. */
    float mean[TOGETHER], length[TOGETHER];
    UNROLL for (int r = 0; r < rows; r++) {
        mean[r] = total_of(shift[r]) / (float)a->width;
        length[r] = total_of(along[r]) / (float)a->width;
    }
    EACH_VECTOR(a->width, {
        vf weight = floats_at(a->weight + d, rest);
        UNROLL for (int r = 0; r < rows; r++) {
            vf unit = centred(x + r * a->width + d, rest, m.mean[r]) * splat(m.scale[r]);
            vf g = numbers_at(grad + r * a->width + d, rest) * weight - splat(mean[r]);
            put(dx + r * a->width + d, rest, (g - unit * splat(length[r])) * splat(m.scale[r]));
        }
    });
}

static int last_row(const LayerNorm *a, int task) {
    return a->rows - task * ROWS_PER_TASK < ROWS_PER_TASK ? a->rows : (task + 1) * ROWS_PER_TASK;
}

static void forward_task(const void *arguments, int task, void *scratch) {
    const LayerNorm *a = arguments;
    int i = task * ROWS_PER_TASK, last = last_row(a, task);
    (void)scratch;
    for (; i + TOGETHER <= last; i += TOGETHER) normalise_rows(a, i, TOGETHER);
    for (; i < last; i++) normalise_rows(a, i, 1);
}

static void backward_task(const void *arguments, int task, void *scratch) {
    const LayerNorm *a = arguments;
    int i = task * ROWS_PER_TASK, last = last_row(a, task), whole = padded(a->width);
    size_t bytes = sizeof(float) * (size_t)a->width;
    float *sums = scratch, *to = a->sums + (ptrdiff_t)task * 2 * a->width;
    memset(sums, 0, sizeof(float) * 2 * (size_t)whole);
    for (; i + TOGETHER <= last; i += TOGETHER) differentiate_rows(a, i, TOGETHER, sums, whole);
    for (; i < last; i++) differentiate_rows(a, i, 1, sums, whole);
    memcpy(to, sums, bytes);
    memcpy(to + a->width, sums + whole, bytes);
}

/* --- what Python calls; 1 where memory ran out, else 0 --- */

int task_count(int rows) { return (rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK; }

int normalise(const number *x, const float *weight, const float *bias, const number *residual, int rows, int width,
              float eps, number *out, int threads) {
    LayerNorm a = {rows, width, eps, x, residual, NULL, weight, bias, out, NULL};
    return run_tasks(forward_task, &a, task_count(rows), threads, 0);
}

/* Fill dx, and sums, (task_count, 2, width), whose parts are to be added. */
int gradients(const number *grad, const number *x, const float *weight, int rows, int width, float eps, number *dx,
              float *sums, int threads) {
    LayerNorm a = {rows, width, eps, x, NULL, grad, weight, NULL, dx, sums};
    return run_tasks(backward_task, &a, task_count(rows), threads, sizeof(float) * 2 * (size_t)padded(width));
}
