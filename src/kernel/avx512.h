/*
 * avx512.h - what the two AVX-512 tables share. The plain one (avx512.c) runs on every processor
 * with F, BW, VL and DQ; avx512vnni.c adds VNNI and VPOPCNTDQ, which multiply bytes and count bits
 * in one instruction. They are two files so that each uses only the instructions it is chosen for.
 */
#ifndef ANNEX_KERNEL_AVX512_H
#define ANNEX_KERNEL_AVX512_H

#include <immintrin.h>

#include "kernel/kernel.h"
#include "kernel/rows.h"
#include "kernel/target.h"

#define AVX512_PLAIN "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq"
#define AVX512_VNNI AVX512_PLAIN ",avx512vnni,avx512vpopcntdq"

/* In avx512.c: VNNI could not do these better. */
float avx512_f32_dot(const float *a, const float *b, size_t n);
float avx512_f32_l2(const float *a, const float *b, size_t n);
float avx512_f32_l1(const float *a, const float *b, size_t n);
uint32_t avx512_q8_pick(const int32_t *dots, const float *scales, const float *biases, size_t n,
                        int32_t offset, float factor, float limit, uint32_t *picked);
void avx512_q8_l1(const uint8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                  const uint32_t *ids, size_t n, int32_t *out);
void avx512_lut16_sum(const uint8_t *lut, const uint8_t *blocks, size_t groups,
                      uint16_t sums[KERNEL_LUT_ROWS]);
void avx512_f32_hadamard(float *x, size_t n, float scale);
void avx512_f32_flip(float *x, const uint32_t *words, size_t n);
uint32_t avx512_u64_merge(uint64_t *sorted, uint32_t size, uint64_t *items, uint32_t n);
uint32_t avx512_bits_mark(const uint32_t *ids, uint32_t n, uint32_t limit, uint64_t *marks,
                          uint32_t *fresh);

TARGET_BEGIN(AVX512_PLAIN)

/* Adds one register of floats of two vectors to a sum. */
typedef __m512 avx512_float_step(__m512 sum, __m512 a, __m512 b);

ROWS_INLINE __m512 avx512_step_dot(__m512 sum, __m512 a, __m512 b)
{
    return _mm512_fmadd_ps(a, b, sum);
}

ROWS_INLINE __m512 avx512_step_l2(__m512 sum, __m512 a, __m512 b)
{
    __m512 difference = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(difference, difference, sum);
}

ROWS_INLINE __m512 avx512_step_l1(__m512 sum, __m512 a, __m512 b)
{
    return _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(a, b)));
}

/* Adds one register of a row, against the query, to a sum. */
typedef __m512i avx512_step(__m512i sum, __m512i row, __m512i query);

/* sums[c] = the sum of the sixteen lanes of s[c] */
ROWS_INLINE void avx512_sum_four(const __m512i s[4], int32_t sums[4])
{
    __m512i s01 =
        _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]), _mm512_unpackhi_epi32(s[0], s[1]));
    __m512i s23 =
        _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]), _mm512_unpackhi_epi32(s[2], s[3]));
    __m512i all =
        _mm512_add_epi32(_mm512_unpacklo_epi64(s01, s23), _mm512_unpackhi_epi64(s01, s23));
    __m256i eight =
        _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    _mm_storeu_si128((__m128i *)sums, four);
}

/* The last bytes of a row of bits, a multiple of 8; zeros behind them change no sum. */
ROWS_INLINE __m512i avx512_load_tail(const void *from, size_t left_bytes)
{
    return _mm512_maskz_loadu_epi64((__mmask8)((1u << left_bytes / 8) - 1), from);
}

ROWS_INLINE void avx512_score_four(avx512_step *step, const uint8_t *query,
                                   const uint8_t *const r[4], size_t bytes, int32_t sums[4])
{
    __m512i s[4];
    for (size_t c = 0; c < 4; c++) {
        s[c] = _mm512_setzero_si512();
    }
    size_t j = 0;
    for (; j + sizeof *s <= bytes; j += sizeof *s) {
        __m512i q = _mm512_loadu_si512(query + j);
        for (size_t c = 0; c < 4; c++) {
            s[c] = step(s[c], _mm512_loadu_si512(r[c] + j), q);
        }
    }
    if (j < bytes) {
        __m512i q = avx512_load_tail(query + j, bytes - j);
        for (size_t c = 0; c < 4; c++) {
            s[c] = step(s[c], avx512_load_tail(r[c] + j, bytes - j), q);
        }
    }
    avx512_sum_four(s, sums);
}

/* The same for half bytes: of each 64 bytes the low halves are the elements that come first. */
ROWS_INLINE void avx512_score_nibbles(avx512_step *step, const int8_t *query,
                                      const uint8_t *const r[4], size_t bytes, int32_t sums[4])
{
    const __m512i half = _mm512_set1_epi8(15);
    __m512i s[4];
    for (size_t c = 0; c < 4; c++) {
        s[c] = _mm512_setzero_si512();
    }
    for (size_t j = 0; j < bytes; j += sizeof *s) {
        __m512i low = _mm512_loadu_si512(query + 2 * j);
        __m512i high = _mm512_loadu_si512(query + 2 * j + sizeof *s);
        for (size_t c = 0; c < 4; c++) {
            __m512i row = _mm512_loadu_si512(r[c] + j);
            s[c] = step(s[c], _mm512_and_si512(row, half), low);
            s[c] = step(s[c], _mm512_and_si512(_mm512_srli_epi16(row, 4), half), high);
        }
    }
    avx512_sum_four(s, sums);
}

TARGET_END

#endif
