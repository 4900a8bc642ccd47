/* GELU, x times the normal distribution's share below x, and its derivative, by polynomials.
 *
 * Both are 1/2 + x p(x^2) for |x| < 5.5, and beyond the ends of that within rounding; p is a polynomial of v, which goes
 * from -1 to 1 with x^2. Fits of weighted least squares, weighed anew until the largest errors were equal. */
#include "numbers.h"
#include "threads.h"

#define END 5.5f
#define NUMBERS_PER_TASK 16384
/* Vectors at a time: what one waits for, the others compute meanwhile. */
#define TOGETHER 4

/* Of the share: 1e-8 from it, and 6e-8 below it at -5.5, so that what is cut off there is nothing at all. */
static const float SHARE[] = {1.285519302e-01f,  -6.417233497e-02f, 4.773763195e-02f,  -3.879279271e-02f,
                              3.207020089e-02f,  -2.604814060e-02f, 2.036499418e-02f,  -1.499977615e-02f,
                              1.022640988e-02f,  -6.817815825e-03f, 4.624171183e-03f,  -2.421936952e-03f,
                              7.181288092e-04f,  -5.265495274e-04f, 6.321959081e-04f,  -2.372176677e-04f};
/* Of the derivative: 4e-8 from it. */
static const float SLOPE[] = {1.287592053e-01f,  -6.573971361e-02f, 5.366517231e-02f,  -5.374377221e-02f,
                              6.031598523e-02f,  -6.864157319e-02f, 7.423291355e-02f,  -7.404961437e-02f,
                              6.527069956e-02f,  -5.007025227e-02f, 3.911642730e-02f,  -3.210347891e-02f,
                              1.716771349e-02f,  -3.350350074e-03f, 3.637493588e-03f,  -5.788798444e-03f,
                              2.231139923e-03f};

typedef struct {
    ptrdiff_t count;
    const number *x, *grad; /* grad: of the result, or NULL */
    number *out;            /* the result, or where there is a gradient that of x */
} Gelu;

/* 1/2 + x p(x^2) of `vectors` vectors, a constant; of NaN, NaN. */
INLINE void evaluate(const float *p, int degree, int vectors, const vf *x, vf *y) {
    vf within[TOGETHER], v[TOGETHER];
    UNROLL for (int i = 0; i < vectors; i++) {
        within[i] = larger(splat(-END), smaller(splat(END), x[i]));
        v[i] = within[i] * within[i] * splat(2.0f / (END * END)) - splat(1.0f);
        y[i] = splat(p[degree]);
    }
    UNROLL for (int d = degree - 1; d >= 0; d--)
        UNROLL for (int i = 0; i < vectors; i++) y[i] = y[i] * v[i] + splat(p[d]);
    UNROLL for (int i = 0; i < vectors; i++) y[i] = y[i] * within[i] + splat(0.5f);
}

/* `vectors` vectors from number `at` on, of which a single one may have only `rest`. */
INLINE void some(const Gelu *a, ptrdiff_t at, int vectors, int rest, int slope) {
    vf x[TOGETHER], y[TOGETHER];
    UNROLL for (int i = 0; i < vectors; i++) x[i] = numbers_at(a->x + at + i * LANES, rest);
    if (slope) evaluate(SLOPE, sizeof SLOPE / sizeof *SLOPE - 1, vectors, x, y);
    else evaluate(SHARE, sizeof SHARE / sizeof *SHARE - 1, vectors, x, y);
    UNROLL for (int i = 0; i < vectors; i++) {
        if (slope) y[i] *= numbers_at(a->grad + at + i * LANES, rest);
        else y[i] = x[i] * larger(splat(0.0f), smaller(splat(1.0f), y[i]));
        put(a->out + at + i * LANES, rest, y[i]);
    }
}

INLINE void all_of_task(const Gelu *a, int task, int slope) {
    ptrdiff_t at = (ptrdiff_t)task * NUMBERS_PER_TASK;
    ptrdiff_t last = a->count - at < NUMBERS_PER_TASK ? a->count : at + NUMBERS_PER_TASK;
    for (; at + TOGETHER * LANES <= last; at += TOGETHER * LANES) some(a, at, TOGETHER, 0, slope);
    for (; at + LANES <= last; at += LANES) some(a, at, 1, 0, slope);
    if (at < last) some(a, at, 1, (int)(last - at), slope);
}

static void gelu_task(const void *arguments, int task, void *scratch) {
    (void)scratch;
    all_of_task(arguments, task, 0);
}

static void gradient_task(const void *arguments, int task, void *scratch) {
    (void)scratch;
    all_of_task(arguments, task, 1);
}

static int tasks_of(ptrdiff_t count) { return (int)((count + NUMBERS_PER_TASK - 1) / NUMBERS_PER_TASK); }

/* --- what Python calls; 1 where memory ran out, else 0 --- */

int gelu(const number *x, ptrdiff_t count, number *out, int threads) {
    Gelu a = {count, x, NULL, out};
    return run_tasks(gelu_task, &a, tasks_of(count), threads, 0);
}

int gradient(const number *grad, const number *x, ptrdiff_t count, number *dx, int threads) {
    Gelu a = {count, x, grad, dx};
    return run_tasks(gradient_task, &a, tasks_of(count), threads, 0);
}
