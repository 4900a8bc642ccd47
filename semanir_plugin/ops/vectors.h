/* What native kernels share: vectors of floats, 2 ** x, small matrix products in registers, and threads.
 *
 * Vectors are GCC's and Clang's portable ones, as wide as the processor compiled for has them. */
#ifndef SEMANIR_VECTORS_H
#define SEMANIR_VECTORS_H

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FOUR(x) x, x, x, x
#if defined(__AVX512F__)
#define LANES 16
#define EACH_LANE(x) FOUR(x), FOUR(x), FOUR(x), FOUR(x)
#define LANE_BITS 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768
#elif defined(__AVX2__)
#define LANES 8
#define EACH_LANE(x) FOUR(x), FOUR(x)
#define LANE_BITS 1, 2, 4, 8, 16, 32, 64, 128
#else
#define LANES 4
#define EACH_LANE(x) FOUR(x)
#define LANE_BITS 1, 2, 4, 8
#endif
/* Queries are handled two vectors at a time: each scalar that is broadcast is used twice. */
#define GROUP (2 * LANES)
/* Rows of a product kept in registers: 2 * ROWS accumulators beside two operands and a scalar. */
#define ROWS (LANES == 8 ? 5 : 10)

#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Written out: compilers see a broadcast in this, not in a loop over lanes. */
INLINE vf splat(float x) { return (vf){EACH_LANE(x)}; }
INLINE vi splat_bits(int32_t x) { return (vi){EACH_LANE(x)}; }
INLINE vf load(const float *p) { return *(const vf *)p; }
INLINE void store(float *p, vf x) { *(vf *)p = x; }

/* All bits of the lanes whose bit is set in the low LANES bits of `bits`. */
INLINE vi lanes_of(uint32_t bits) {
    return (splat_bits((int32_t)bits) & (vi){LANE_BITS}) != 0;
}

INLINE vf pick(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

/* The larger one; a NaN in `a` loses, so that it spoils a sum later but no maximum now. */
INLINE vf larger(vf a, vf b) { return pick(a > b, a, b); }

/* 2 ** x to 2e-9 relative and rounding, for x <= 127; below -126 it stays 2 ** -126. NaN in, NaN out. */
INLINE vf exp2_of(vf x) {
    x = pick(x < splat(-126.0f), splat(-126.0f), x);
    const vf shift = splat(12582912.0f); /* 1.5 * 2 ** 23: adding it rounds to an integer, in the low bits */
    vf shifted = x + shift;
    vf f = x - (shifted - shift);
    vf power = (vf)((((vi)shifted - (vi)shift) + splat_bits(127)) << splat_bits(23));
    /* Least-squares fit of the relative error on [-0.5, 0.5]. */
    vf y = splat(1.534573722e-4f);
    y = y * f + splat(1.339990983e-3f);
    y = y * f + splat(9.618489028e-3f);
    y = y * f + splat(5.550328832e-2f);
    y = y * f + splat(2.402264689e-1f);
    y = y * f + splat(6.931472057e-1f);
    y = y * f + splat(1.0f);
    return y * power;
}

/* c[r][:] (+)= sum over t of a(r, t) b[t][:], for `rows` rows and one or two vectors of columns.
 * a(r, t) is a[r][t], or a[t][r] where a_by_term. A compile-time `rows` keeps c in registers. */
INLINE void product_of(int rows, int vectors, int a_by_term, int add, int terms, const float *const *a, int first,
                       const float *b, int b_stride, float *const *c, int c_first) {
    vf sum[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++) sum[r][j] = splat(0.0f);
    for (int t = 0; t < terms; t++) {
        vf b0 = load(b + (ptrdiff_t)t * b_stride);
        vf b1 = vectors > 1 ? load(b + (ptrdiff_t)t * b_stride + LANES) : b0;
        for (int r = 0; r < rows; r++) {
            vf x = splat(a_by_term ? a[t][first + r] : a[r][first + t]);
            sum[r][0] += x * b0;
            if (vectors > 1) sum[r][1] += x * b1;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++) {
            float *p = c[r] + c_first + j * LANES;
            if (add) sum[r][j] += load(p);
            store(p, sum[r][j]);
        }
}

#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        if (n <= ROWS) product_of(n, vectors, a_by_term, add, terms, a, first, b, b_stride, c, c_first);     \
        break;

INLINE void product_rows(int rows, int vectors, int a_by_term, int add, int terms, const float *const *a, int first,
                         const float *b, int b_stride, float *const *c, int c_first) {
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10)
    }
}

/* c[r] = sum over t of a[r][t] b[t], (rows x GROUP), rows in any number and by pointer. */
static void times_group(int rows, int terms, const float *const *a, const float *b, float *const *c) {
    for (int r = 0; r < rows; r += ROWS)
        product_rows(rows - r < ROWS ? rows - r : ROWS, 2, 0, 0, terms, a + r, 0, b, GROUP, c + r, 0);
}

/* c[d] += sum over t of a[t][d] b[t], (width x GROUP), c contiguous. */
static void add_transposed(int width, int terms, const float *const *a, const float *b, float *c) {
    float *rows[ROWS];
    for (int d = 0; d < width; d += ROWS) {
        int count = width - d < ROWS ? width - d : ROWS;
        for (int r = 0; r < count; r++) rows[r] = c + (d + r) * GROUP;
        product_rows(count, 2, 1, 1, terms, a, d, b, GROUP, rows, 0);
    }
}

/* c[r][0:padded] += sum over t < GROUP of a[r][t] b[t][0:padded], padded a multiple of LANES, rows of c by pointer. */
static void add_outer(int rows, int padded, const float *const *a, const float *b, float *const *c) {
    for (int r = 0; r < rows; r += ROWS) {
        int count = rows - r < ROWS ? rows - r : ROWS, d = 0;
        for (; d + 2 * LANES <= padded; d += 2 * LANES)
            product_rows(count, 2, 0, 1, GROUP, a + r, 0, b + d, padded, c + r, d);
        if (d < padded) product_rows(count, 1, 0, 1, GROUP, a + r, 0, b + d, padded, c + r, d);
    }
}

typedef struct {
    void (*work)(const void *arguments, int task, void *scratch);
    const void *arguments;
    size_t scratch_bytes;
    int tasks;
    atomic_int next, failed;
} Job;

static void *worker(void *pointer) {
    Job *job = pointer;
    size_t bytes = (job->scratch_bytes + 63) / 64 * 64;
    void *scratch = aligned_alloc(64, bytes ? bytes : 64);
    if (!scratch) {
        atomic_store(&job->failed, 1);
        return NULL;
    }
    for (int task; (task = atomic_fetch_add(&job->next, 1)) < job->tasks;) job->work(job->arguments, task, scratch);
    free(scratch);
    return NULL;
}

/* GOMP_parallel of the OpenMP that PyTorch itself runs on, or NULL. Its threads wait busily for some milliseconds after
 * each of PyTorch's operators; other threads beside them would get a part of the processor only. */
static void (*openmp)(void (*)(void *), void *, unsigned threads, unsigned flags);

/* To be called once, before anything else. */
void use_openmp(void *function) { memcpy(&openmp, &function, sizeof openmp); }

static void openmp_worker(void *job) { worker(job); }

/* Run tasks 0 .. tasks - 1 on up to `threads` threads, each with scratch memory; 0, or 1 where memory ran out. */
static int run_tasks(void (*work)(const void *, int, void *), const void *arguments, int tasks, int threads,
                     size_t scratch_bytes) {
    Job job = {.work = work, .arguments = arguments, .scratch_bytes = scratch_bytes, .tasks = tasks};
    pthread_t others[256];
    int started = 0;
    if (threads > tasks) threads = tasks;
    if (openmp && threads > 1) {
        openmp(openmp_worker, &job, (unsigned)threads, 0);
        return atomic_load(&job.failed);
    }
    while (started < threads - 1 && started < 256 && !pthread_create(&others[started], NULL, worker, &job)) started++;
    worker(&job);
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
    return atomic_load(&job.failed);
}

#endif
