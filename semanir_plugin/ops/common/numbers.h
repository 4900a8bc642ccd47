/* Numbers of tensors: floats, or bfloat16 where a C file sets BF16 to 1.
 *
 * A word is what one multiplication takes of a row: 32 bits, one float or a pair of bfloat16. Vectors are of words where
 * the other factor is, too. Sums are floats in both. */
#ifndef SEMANIR_NUMBERS_H
#define SEMANIR_NUMBERS_H

#include "vectors.h"

#ifndef BF16
#define BF16 0
#endif
#define PER_WORD (1 + BF16)

#if !BF16

typedef float number;

INLINE float value_of(number x) { return x; }
INLINE float word_at(const number *row, int word) { return row[word]; }
INLINE vf channels_of(const number *row, int d, int width) { return load_channels(row, d, width); }
INLINE void store_numbers(number *row, int d, int width, vf x) { store_channels(row, d, width, x); }
/* sum + y x, of words. */
INLINE vf multiply_add(vf y, vf x, vf sum) { return sum + y * x; }
/* 2 ** x as weights are taken: to much less than a number's rounding. */
INLINE vf weight_of(vf x) { return exp2_of(x); }
/* The words of PER_WORD vectors of floats, lane by lane, and back: the numbers of one of these. */
INLINE vf pack(vf first, vf last) { return (void)last, first; }
INLINE vf numbers_in(vf words, int which) { return (void)which, words; }
/* Two vectors of numbers, rounded, as words: neighbouring lanes are pairs. */
INLINE vf neighbours(vf first, vf second) { return (void)second, first; }

#elif !defined(__AVX512BF16__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "needs a processor that multiplies pairs of bfloat16"
#else

typedef uint16_t number __attribute__((may_alias));

INLINE float value_of(number x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE float word_at(const number *row, int word) {
    float pair;
    memcpy(&pair, row + 2 * word, sizeof pair);
    return pair;
}

/* Channels [d, d + LANES) of a row of `width`, as they are, zeros behind its end. */
INLINE __m256i numbers_of(const number *row, int d, int width) {
    if (d + LANES <= width) return _mm256_loadu_si256((const __m256i *)(row + d));
    return _mm256_maskz_loadu_epi16((__mmask16)((1u << (width - d)) - 1), row + d);
}

INLINE vf channels_of(const number *row, int d, int width) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(numbers_of(row, d, width)), 16);
}

INLINE void store_numbers(number *row, int d, int width, vf x) {
    __m256i rounded = (__m256i)_mm512_cvtneps_pbh((__m512)x);
    __mmask16 mask = d + LANES <= width ? 0xffff : (__mmask16)((1u << (width - d)) - 1);
    _mm256_mask_storeu_epi16(row + d, mask, rounded);
}

INLINE vf multiply_add(vf y, vf x, vf sum) {
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)y, (__m512bh)(__m512i)x);
}

INLINE vf neighbours(vf first, vf second) { return (vf)(__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first); }

/* Words of the halves of `x`: a number of the first and one of the second are a pair. */
INLINE vf pairs_of_halves(__m512i x) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                           5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vf)_mm512_permutexvar_epi16(order, x);
}

INLINE vf weight_of(vf x) {
    vf f = (vf)_mm512_reduce_ps((__m512)x, 1); /* above the next integer below; of infinity, 0 */
    /* Fit of the relative error on [0, 1], 3e-6. */
    vf y = splat(1.353414600e-2f);
    y = y * f + splat(5.201156216e-2f);
    y = y * f + splat(2.414426464e-1f);
    y = y * f + splat(6.930038730e-1f);
    y = y * f + splat(1.000002590f);
    return (vf)_mm512_scalef_ps((__m512)y, (__m512)x); /* times 2 to that integer */
}

INLINE vf pack(vf first, vf last) { return pairs_of_halves((__m512i)neighbours(first, last)); }

/* Words of channels [d, d + LANES) of two rows. */
INLINE vf row_pairs(const number *first, const number *second, int d, int width) {
    __m512i both = _mm512_castsi256_si512(numbers_of(first, d, width));
    return pairs_of_halves(_mm512_inserti64x4(both, numbers_of(second, d, width), 1));
}

INLINE vf numbers_in(vf words, int which) {
    __m512i bits = (__m512i)words;
    return (vf)(which ? _mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)) : _mm512_slli_epi32(bits, 16));
}

#endif

/* A statement for each vector of channels, from d on: `rest` is how many are left where they are no whole vector, else 0. */
#define EACH_VECTOR(width, ...)                           \
    do {                                                  \
        int d = 0;                                        \
        for (; d + LANES <= (width); d += LANES) {        \
            const int rest = 0;                           \
            __VA_ARGS__;                                  \
        }                                                 \
        if (d < (width)) {                                \
            const int rest = (width) - d;                 \
            __VA_ARGS__;                                  \
        }                                                 \
    } while (0)

INLINE vf numbers_at(const number *p, int rest) { return rest ? channels_of(p, 0, rest) : channels_of(p, 0, LANES); }
INLINE void put(number *p, int rest, vf x) { store_numbers(p, 0, rest ? rest : LANES, x); }

/* How many words a row of `width` numbers has; pairs are whole. */
INLINE int words_of(int width) { return width / PER_WORD; }

#endif
