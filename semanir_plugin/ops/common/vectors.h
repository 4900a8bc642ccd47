/* Vectors of floats for native kernels: as wide as the processor compiled for has them.
 *
 * GCC's and Clang's portable vectors; intrinsics where these miss an instruction of x86. */
#ifndef SEMANIR_VECTORS_H
#define SEMANIR_VECTORS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define FOUR(x) x, x, x, x
#if defined(__AVX512F__)
#define LANES 16
#define EACH_LANE(x) FOUR(x), FOUR(x), FOUR(x), FOUR(x)
#define LANE_BITS 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768
#define LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define LANES 8
#define EACH_LANE(x) FOUR(x), FOUR(x)
#define LANE_BITS 1, 2, 4, 8, 16, 32, 64, 128
#define LOW_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LANES 4
#define EACH_LANE(x) FOUR(x)
#define LANE_BITS 1, 2, 4, 8
#define LOW_HALVES 0, 4, 1, 5
#define HIGH_HALVES 2, 6, 3, 7
#endif

#define INLINE static inline __attribute__((always_inline))

/* Products are summed in tiles of ROWS rows by VECTORS vectors, which stay in registers beside the vectors of one factor and
 * a number of the other: 12 x 2 + 2 + 1 of the 32 registers of AVX-512, 6 x 2 + 2 + 1 of 16 elsewhere. */
#define ROWS (LANES == 16 ? 12 : 6)
#define VECTORS 2

/* So many in whole vectors. */
INLINE int padded(int count) { return (count + LANES - 1) / LANES * LANES; }

/* Before a loop whose vectors shall stay in registers. */
#define UNROLL _Pragma("GCC unroll 16")

typedef float vf __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Written out: compilers see a broadcast in this, not in a loop over lanes. */
INLINE vf splat(float x) { return (vf){EACH_LANE(x)}; }
INLINE vi splat_bits(int32_t x) { return (vi){EACH_LANE(x)}; }
INLINE vf load(const float *p) { return *(const vf *)p; }
/* The same into a register, for what is used several times: compilers would rather load it again each time. */
INLINE vf load_once(const float *p) {
    vf x = load(p);
#if defined(__AVX2__)
    __asm__("" : "+v"(x));
#endif
    return x;
}
INLINE void store(float *p, vf x) { *(vf *)p = x; }

/* All bits of the lanes whose bit is set in the low LANES bits of `bits`. */
INLINE vi lanes_of(uint32_t bits) { return (splat_bits((int32_t)bits) & (vi){LANE_BITS}) != 0; }

/* `x` in the lanes whose bit is set, 0 in the others, whatever `x` is there. */
INLINE vf keep(uint32_t bits, vf x) {
#if LANES == 16
    return (vf)_mm512_maskz_mov_ps((__mmask16)bits, (__m512)x);
#else
    return (vf)((vi)x & lanes_of(bits));
#endif
}

/* `yes` in the lanes whose bit is set, `no` in the others. */
INLINE vf choose(uint32_t bits, vf yes, vf no) {
#if LANES == 16
    return (vf)_mm512_mask_mov_ps((__m512)no, (__mmask16)bits, (__m512)yes);
#else
    vi mask = lanes_of(bits);
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
#endif
}

/* The larger one; where either is NaN, `b`. */
INLINE vf larger(vf a, vf b) {
#if LANES == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif LANES == 8
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    vi mask = a > b;
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
#endif
}

/* The smaller one; where either is NaN, `b`. */
INLINE vf smaller(vf a, vf b) {
#if LANES == 16
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif LANES == 8
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    vi mask = a < b;
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
#endif
}

/* The first `count` < LANES floats, zeros behind; nothing behind them is read. */
INLINE vf load_first(const float *p, int count) {
#if LANES == 16
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#elif LANES == 8
    return (vf)_mm256_maskload_ps(p, (__m256i)lanes_of((1u << count) - 1));
#else
    vf x = splat(0.0f);
    memcpy(&x, p, sizeof(float) * (size_t)count);
    return x;
#endif
}

/* The same, or a whole vector where `rest` is 0. */
INLINE vf floats_at(const float *p, int rest) { return rest ? load_first(p, rest) : load(p); }

/* Channels [d, d + LANES) of a row of `width`, zeros behind its end. */
INLINE vf load_channels(const float *row, int d, int width) {
    return d + LANES <= width ? load(row + d) : load_first(row + d, width - d);
}

INLINE void store_channels(float *row, int d, int width, vf x) {
    if (d + LANES <= width) {
        store(row + d, x);
        return;
    }
#if LANES == 16
    _mm512_mask_storeu_ps(row + d, (__mmask16)((1u << (width - d)) - 1), (__m512)x);
#elif LANES == 8
    __m128 left = _mm256_castps256_ps128((__m256)x);
    float *to = row + d;
    if ((width - d) & 4) _mm_storeu_ps(to, left), to += 4, left = _mm256_extractf128_ps((__m256)x, 1);
    if ((width - d) & 2) _mm_storel_pi((__m64 *)to, left), to += 2, left = _mm_movehl_ps(left, left);
    if ((width - d) & 1) _mm_store_ss(to, left);
#else
    memcpy(row + d, &x, sizeof(float) * (size_t)(width - d));
#endif
}

#if defined(__clang__) || __GNUC__ >= 12
#define LOW_OF(a, b) __builtin_shufflevector(a, b, LOW_HALVES)
#define HIGH_OF(a, b) __builtin_shufflevector(a, b, HIGH_HALVES)
#else
#define LOW_OF(a, b) __builtin_shuffle(a, b, (vi){LOW_HALVES})
#define HIGH_OF(a, b) __builtin_shuffle(a, b, (vi){HIGH_HALVES})
#endif

/* Make the LANES rows of a square block its columns. Each round takes the lanes of a row and of the one half a block
 * further in turn: element (row, lane), seen as one number of twice the bits, has that number rotated by one bit. */
INLINE void transpose(vf *x) {
    vf y[LANES];
    for (int round = 1; round < LANES; round *= 2) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = LOW_OF(x[i], x[i + LANES / 2]);
            y[2 * i + 1] = HIGH_OF(x[i], x[i + LANES / 2]);
        }
        UNROLL for (int i = 0; i < LANES; i++) x[i] = y[i];
    }
}

/* The sums over lanes of LANES vectors, as one vector. */
INLINE vf sums_of(vf *x) {
    transpose(x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

INLINE vf root_of(vf x) {
#if LANES == 16
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif LANES == 8
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* The sum over lanes. */
INLINE float total_of(vf x) {
#if LANES == 16
    return _mm512_reduce_add_ps((__m512)x);
#elif LANES == 8
    __m128 sums = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
#else
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
#endif
}

/* Whether a lane is NaN. */
INLINE int any_nan(vf x) {
#if LANES == 16
    return _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q) != 0;
#elif LANES == 8
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, (__m256)x, _CMP_UNORD_Q)) != 0;
#else
    vi mask = x != x;
    int any = 0;
    for (int i = 0; i < LANES; i++) any |= mask[i];
    return any != 0;
#endif
}

/* The largest lane. */
INLINE float largest_of(vf x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* 2 ** x to 2e-9 relative and rounding, for x <= 127; below -126 it may stay 2 ** -126. NaN in, NaN out. */
INLINE vf exp2_of(vf x) {
#if LANES == 16
    vf f = (vf)_mm512_reduce_ps((__m512)x, 0); /* of infinity, 0 */
#else
    x = larger(splat(-126.0f), x);
    const vf shift = splat(12582912.0f); /* 1.5 * 2 ** 23: adding it rounds to an integer, in the low bits */
    vf shifted = x + shift;
    vf f = x - (shifted - shift);
    vf power = (vf)(((vu)shifted << (vu)splat_bits(23)) + (vu)splat_bits(127 << 23));
#endif
    /* Least-squares fit of the relative error on [-0.5, 0.5]. */
    vf y = splat(1.534573722e-4f);
    y = y * f + splat(1.339990983e-3f);
    y = y * f + splat(9.618489028e-3f);
    y = y * f + splat(5.550328832e-2f);
    y = y * f + splat(2.402264689e-1f);
    y = y * f + splat(6.931472057e-1f);
    y = y * f + splat(1.0f);
#if LANES == 16
    return (vf)_mm512_scalef_ps((__m512)y, (__m512)(x - f));
#else
    return y * power;
#endif
}

#endif
