/*
 * avx512_codes.c - kernels for codes of 4 bits and of 16-bit floats: AVX-512 without VNNI. The 32
 * lanes of a float sum are two registers, as in avx512.c.
 */
#include "kernel/kernel.h"

#if defined(__x86_64__)

#    include "kernel/avx512.h"

TARGET_BEGIN(AVX512_PLAIN)

/* ---- 16-bit floats ---------------------------------------------------------------------------*/

typedef __m512 half_load(__m256i halves);

ROWS_INLINE __m512 load_f16(__m256i halves)
{
    return _mm512_cvtph_ps(halves);
}

ROWS_INLINE __m512 load_bf16(__m256i halves)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* Elements from..n-1, at most a register of them; the other lanes take no part. */
ROWS_INLINE __m512 step_tail(avx512_float_step *step, half_load *load, __m512 sum, const float *a,
                             const uint16_t *b, size_t from, size_t n)
{
    from = from < n ? from : n;
    __mmask16 mask = n - from < 16 ? (__mmask16)((1u << (n - from)) - 1) : (__mmask16)0xffff;
    __m512 stepped = step(sum, _mm512_maskz_loadu_ps(mask, a + from),
                          load(_mm256_maskz_loadu_epi16(mask, b + from)));
    return _mm512_mask_mov_ps(sum, mask, stepped);
}

ROWS_INLINE float sum_halves(avx512_float_step *step, half_load *load, const float *a,
                             const uint16_t *b, size_t n)
{
    __m512 low = _mm512_setzero_ps(), high = low;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m512i halves = _mm512_loadu_si512(b + i);
        low = step(low, _mm512_loadu_ps(a + i), load(_mm512_castsi512_si256(halves)));
        high = step(high, _mm512_loadu_ps(a + i + 16), load(_mm512_extracti64x4_epi64(halves, 1)));
    }
    if (i < n) {
        low = step_tail(step, load, low, a, b, i, n);
        high = step_tail(step, load, high, a, b, i + 16, n);
    }
    __m512 sixteen = _mm512_add_ps(low, high);
    __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#    define HALF_KERNEL(name, step, load)                       \
        float name(const float *a, const uint16_t *b, size_t n) \
        {                                                       \
            return sum_halves(step, load, a, b, n);             \
        }

HALF_KERNEL(avx512_f16_dot, avx512_step_dot, load_f16)
HALF_KERNEL(avx512_f16_l2, avx512_step_l2, load_f16)
HALF_KERNEL(avx512_f16_l1, avx512_step_l1, load_f16)
HALF_KERNEL(avx512_bf16_dot, avx512_step_dot, load_bf16)
HALF_KERNEL(avx512_bf16_l2, avx512_step_l2, load_bf16)
HALF_KERNEL(avx512_bf16_l1, avx512_step_l1, load_bf16)

/* ---- 4 bits ----------------------------------------------------------------------------------*/

/* Sums of two products stay below 2^12, far from where vpmaddubsw saturates. */
ROWS_INLINE __m512i step_q4_dot(__m512i sum, __m512i nibbles, __m512i query)
{
    __m512i pairs = _mm512_maddubs_epi16(nibbles, query);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

ROWS_INLINE void q4_dot_four(const void *query, const uint8_t *const r[4], size_t bytes,
                             int32_t sums[4])
{
    avx512_score_nibbles(step_q4_dot, query, r, bytes, sums);
}

void avx512_q4_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                   const uint32_t *ids, size_t n, int32_t *out)
{
    rows_score(q4_dot_four, query, rows, stride_bytes, bytes, ids, n, out);
}

TARGET_END

#endif
