/* Transposition of dense biases, in which kernels read queries side by side. */
#ifndef SEMANIR_TRANSPOSITION_H
#define SEMANIR_TRANSPOSITION_H

#include <stddef.h>

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

#endif
