/* Gradients of a linear layer's weight and bias: a product over tokens, of rows as they lie in memory.
 *
 * Libraries of matrices want one factor transposed, which takes as long as the product where layers are narrow.
 *
 * Layouts: x (tokens, inputs), grad (tokens, outputs), contiguous; sums (parts, outputs * inputs + outputs), those of the
 * bias last. */
#include "threads.h"
#include "vectors.h"

/* Outputs whose sums are held in registers at once where fewer than ROWS are left over. */
#define STEP 2
/* Tokens that are added up by themselves: their rows stay in the first-level cache, and sums of sums round less. */
#define TOKENS 64
/* Outputs of a task, a multiple of ROWS. */
#define BLOCK 48

typedef struct {
    ptrdiff_t tokens;
    int outputs, inputs, parts; /* parts of the tokens, summed apart */
    const float *x, *grad;
    float *sums;
} Product;

/* sums += grad^T x for some tokens, `rows` outputs and `vectors` of inputs, of which the last one has `rest` if any. */
INLINE void add_tile(const Product *a, int rows, int vectors, int rest, ptrdiff_t first, ptrdiff_t last, const float *x,
                     const float *grad, float *sums) {
    int stride = a->inputs;
    vf sum[ROWS][VECTORS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = splat(0.0f);
    for (ptrdiff_t t = first; t < last; t++) {
        vf each[VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) {
            const float *from = x + t * a->inputs + j * LANES;
            each[j] = rest && j == vectors - 1 ? load_first(from, rest) : load_once(from);
        }
        UNROLL for (int r = 0; r < rows; r++) {
            vf factor = splat(grad[t * a->outputs + r]);
            UNROLL for (int j = 0; j < vectors; j++) sum[r][j] += factor * each[j];
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < vectors; j++) {
            float *to = sums + (ptrdiff_t)r * stride + j * LANES;
            if (rest && j == vectors - 1) store_channels(to, 0, rest, load_first(to, rest) + sum[r][j]);
            else store(to, load(to) + sum[r][j]);
        }
}

/* All inputs of `rows` outputs, a constant, from `o` on. */
INLINE void add_rows(const Product *a, int rows, ptrdiff_t first, ptrdiff_t last, int o, float *weight) {
    const float *grad = a->grad + o;
    float *sums = weight + (ptrdiff_t)o * a->inputs;
    int i = 0, rest = a->inputs % LANES, whole = a->inputs - rest;
    for (; i + VECTORS * LANES <= whole; i += VECTORS * LANES)
        add_tile(a, rows, VECTORS, 0, first, last, a->x + i, grad, sums + i);
    if (i < whole && rest) add_tile(a, rows, 2, rest, first, last, a->x + i, grad, sums + i);
    else if (i < whole) add_tile(a, rows, 1, 0, first, last, a->x + i, grad, sums + i);
    else if (rest) add_tile(a, rows, 1, rest, first, last, a->x + i, grad, sums + i);
}

static void add_bias(const Product *a, ptrdiff_t first, ptrdiff_t last, int o, int stop, float *bias) {
    for (; o < stop; o += LANES) {
        vf sum = splat(0.0f);
        for (ptrdiff_t t = first; t < last; t++) sum += load_channels(a->grad + t * a->outputs, o, stop);
        store_channels(bias, o, stop, load_channels(bias, o, stop) + sum);
    }
}

static int blocks(int outputs) { return (outputs + BLOCK - 1) / BLOCK; }

static void product_task(const void *arguments, int task, void *scratch) {
    const Product *a = arguments;
    int part = task / blocks(a->outputs), o = task % blocks(a->outputs) * BLOCK;
    int stop = o + BLOCK < a->outputs ? o + BLOCK : a->outputs, width = a->inputs;
    ptrdiff_t begin = a->tokens * part / a->parts, end = a->tokens * (part + 1) / a->parts;
    float *weight = a->sums + (ptrdiff_t)part * a->outputs * (width + 1), *bias = weight + (ptrdiff_t)a->outputs * width;
    (void)scratch;
    memset(weight + (ptrdiff_t)o * width, 0, sizeof(float) * (size_t)(stop - o) * (size_t)width);
    memset(bias + o, 0, sizeof(float) * (size_t)(stop - o));
    for (ptrdiff_t first = begin; first < end; first += TOKENS) {
        ptrdiff_t last = first + TOKENS < end ? first + TOKENS : end;
        int row = o;
        add_bias(a, first, last, o, stop, bias);
        for (; row + ROWS <= stop; row += ROWS) add_rows(a, ROWS, first, last, row, weight);
        for (; row + STEP <= stop; row += STEP) add_rows(a, STEP, first, last, row, weight);
        for (; row < stop; row++) add_rows(a, 1, first, last, row, weight);
    }
}

/* Fill `sums`, whose parts are to be added; 1 where memory ran out, else 0. */
int gradients(const float *x, const float *grad, ptrdiff_t tokens, int outputs, int inputs, int parts, float *sums,
              int threads) {
    Product a = {tokens, outputs, inputs, parts, x, grad, sums};
    return run_tasks(product_task, &a, parts * blocks(outputs), threads, 0);
}
