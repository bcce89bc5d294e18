/*
 * avx2_codes.c - kernels for codes of 4 bits and of 16-bit floats: AVX2 with F16C. The 32 lanes of
 * a float sum are four registers, as in avx2.c.
 */
#include "kernel/kernel.h"

#if defined(__x86_64__)

#    include <immintrin.h>

#    include "kernel/rows.h"
#    include "kernel/target.h"

TARGET_BEGIN("avx2,fma,f16c")

#    include "kernel/avx2.h"

/* ---- 16-bit floats ---------------------------------------------------------------------------*/

enum { LANES = 32, REGISTERS = 4, WIDTH = 8 };

typedef __m256 half_load(const uint16_t *from);

ROWS_INLINE __m256 load_f16(const uint16_t *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

ROWS_INLINE __m256 load_bf16(const uint16_t *from)
{
    __m128i upper = _mm_loadu_si128((const __m128i *)(const void *)from);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(upper), 16));
}

ROWS_INLINE float sum_halves(avx2_float_step *step, half_load *load, const float *a,
                             const uint16_t *b, size_t n)
{
    __m256 s[REGISTERS];
    for (size_t c = 0; c < REGISTERS; c++) {
        s[c] = _mm256_setzero_ps();
    }
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t c = 0; c < REGISTERS; c++) {
            s[c] = step(s[c], _mm256_loadu_ps(a + i + c * WIDTH), load(b + i + c * WIDTH));
        }
    }
    if (i < n) { /* lanes past the end take no part: stepped by zero, a sum of -0 would turn to 0 */
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        float a_tail[LANES] = {0};
        uint16_t b_tail[LANES] = {0};
        memcpy(a_tail, a + i, (n - i) * sizeof *a);
        memcpy(b_tail, b + i, (n - i) * sizeof *b);
        for (size_t c = 0; c < REGISTERS; c++) {
            __m256i left = _mm256_set1_epi32((int)(n - i) - (int)(c * WIDTH));
            __m256 stepped =
                step(s[c], _mm256_loadu_ps(a_tail + c * WIDTH), load(b_tail + c * WIDTH));
            s[c] = _mm256_blendv_ps(s[c], stepped,
                                    _mm256_castsi256_ps(_mm256_cmpgt_epi32(left, lane)));
        }
    }
    __m256 eight = _mm256_add_ps(_mm256_add_ps(s[0], s[2]), _mm256_add_ps(s[1], s[3]));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#    define HALF_KERNEL(name, step, load)                       \
        float name(const float *a, const uint16_t *b, size_t n) \
        {                                                       \
            return sum_halves(step, load, a, b, n);             \
        }

HALF_KERNEL(avx2_f16_dot, avx2_step_dot, load_f16)
HALF_KERNEL(avx2_f16_l2, avx2_step_l2, load_f16)
HALF_KERNEL(avx2_f16_l1, avx2_step_l1, load_f16)
HALF_KERNEL(avx2_bf16_dot, avx2_step_dot, load_bf16)
HALF_KERNEL(avx2_bf16_l2, avx2_step_l2, load_bf16)
HALF_KERNEL(avx2_bf16_l1, avx2_step_l1, load_bf16)

/* ---- 4 bits ----------------------------------------------------------------------------------*/

ROWS_INLINE __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

/* Sums of two products stay below 2^12, far from where vpmaddubsw saturates. */
ROWS_INLINE __m256i step_q4_dot(__m256i sum, __m256i nibbles, __m256i query)
{
    __m256i pairs = _mm256_maddubs_epi16(nibbles, query);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

ROWS_INLINE void q4_dot_four(const void *query, const uint8_t *const r[4], size_t bytes,
                             int32_t sums[4])
{
    const __m256i low = _mm256_set1_epi8(15);
    const int8_t *q = query;
    __m256i s[4];
    for (size_t c = 0; c < 4; c++) {
        s[c] = _mm256_setzero_si256();
    }
    for (size_t j = 0; j < bytes; j += 32) {
        /* Blocks of 64 bytes: 64 elements in the low halves, 64 in the high ones. */
        const int8_t *low_query = q + (j & ~(size_t)63) * 2 + (j & 32);
        __m256i q_low = load(low_query), q_high = load(low_query + 64);
        for (size_t c = 0; c < 4; c++) {
            __m256i row = load(r[c] + j);
            s[c] = step_q4_dot(s[c], _mm256_and_si256(row, low), q_low);
            s[c] = step_q4_dot(s[c], _mm256_and_si256(_mm256_srli_epi16(row, 4), low), q_high);
        }
    }
    __m256i s01 = _mm256_hadd_epi32(s[0], s[1]), s23 = _mm256_hadd_epi32(s[2], s[3]);
    __m256i all = _mm256_hadd_epi32(s01, s23);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storeu_si128((__m128i *)(void *)sums, four);
}

void avx2_q4_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                 const uint32_t *ids, size_t n, int32_t *out)
{
    rows_score(q4_dot_four, query, rows, stride_bytes, bytes, ids, n, out);
}

TARGET_END

#endif
