/* The attention's kernels as a program, for one window: q, k, v, gradient and mask; out, dq, dk, dv; sizes as arguments. */
#include "key_semantic_attention/native.c"

#include <stdio.h>

static int n, d, heads;

static float *rows(int width, int read) {
    float *x = malloc(sizeof(float) * heads * n * width);
    if (read && fread(x, sizeof(float) * n * width, heads, stdin) != (size_t)heads) exit(3);
    return x;
}

static void print(const float *x, int stride) {
    for (int i = 0; i < heads * n; i++) fwrite(x + (size_t)i * stride, sizeof(float), d, stdout);
}

int main(int count, char **sizes) {
    if (count != 4) return 2;
    heads = atoi(sizes[1]), n = atoi(sizes[2]), d = atoi(sizes[3]);
    Attention a = {.batch = 1, .heads = heads, .tokens = n, .width = d, .value_width = d, .scale = 0.5f, .splits = 1};
    for (int i = 0; i < 3; i++) {
        ptrdiff_t step = i == 0 ? heads * n * d : i == 1 ? n * d : d;
        a.q_stride[i] = a.k_stride[i] = a.v_stride[i] = a.grad_stride[i] = a.out_stride[i] = step;
    }
    a.q = rows(d, 1), a.k = rows(d, 1), a.v = rows(d, 1), a.grad = rows(d, 1);
    uint8_t *mask = malloc((size_t)n * n);
    if (fread(mask, n, n, stdin) != (size_t)n) return 3;
    int length = up_to(n, STEP);
    int32_t *counts = calloc(group_count(n), sizeof *counts), *keys = calloc(group_count(n), sizeof *keys * length);
    uint32_t *bits = calloc(group_count(n), sizeof *bits * length);
    if (list_keys(mask, 1, n, counts, keys, bits, 2)) return 4;
    a.counts = counts, a.keys = keys, a.bits = bits;
    a.out = rows(d, 0), a.lse = rows(1, 0), a.dq = rows(d, 0), a.dk = rows(padded(d), 0), a.dv = rows(padded(d), 0);
    if (attention_forward(&a, 2) || attention_backward(&a, 2)) return 5;
    print(a.out, d), print(a.dq, d), print(a.dk, padded(d)), print(a.dv, padded(d));
    return 0;
}
