/*
 * avx512vnni.c - kernels for AVX-512 with VNNI and VPOPCNTDQ: four products of bytes, or the bits
 * of a word, in one instruction for each lane.
 */
#include "kernel/kernel.h"

#if defined(__x86_64__)

#    include "kernel/avx512_tile.h"

TARGET_BEGIN(AVX512_VNNI)

ROWS_INLINE __m512i step_q8_dot(__m512i sum, __m512i row, __m512i query)
{
    return _mm512_dpbusd_epi32(sum, row, query);
}

ROWS_INLINE __m512i step_bits_xor(__m512i sum, __m512i row, __m512i query)
{
    return _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(row, query)));
}

ROWS_INLINE __m512i step_bits_and(__m512i sum, __m512i row, __m512i query)
{
    return _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_and_si512(row, query)));
}

ROWS_INLINE void q8_dot_four(const void *query, const uint8_t *const r[4], size_t bytes,
                             int32_t sums[4])
{
    avx512_score_four(step_q8_dot, query, r, bytes, sums);
}

/* The heart of a search. Loops whose length is known save a twentieth for the common widths. */
static void vnni_q8_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                        const uint32_t *ids, size_t n, int32_t *out)
{
    switch (bytes) {
    case 128:
        rows_score(q8_dot_four, query, rows, stride_bytes, 128, ids, n, out);
        break;
    case 256:
        rows_score(q8_dot_four, query, rows, stride_bytes, 256, ids, n, out);
        break;
    case 384:
        rows_score(q8_dot_four, query, rows, stride_bytes, 384, ids, n, out);
        break;
    default:
        rows_score(q8_dot_four, query, rows, stride_bytes, bytes, ids, n, out);
        break;
    }
}

ROWS_TILE static void vnni_q8_tile(const int8_t *queries, size_t query_stride_bytes,
                                   size_t n_queries, const uint8_t *rows, size_t stride_bytes,
                                   size_t bytes, const uint32_t *ids, size_t n, int32_t *out)
{
    avx512_tile(step_q8_dot, queries, query_stride_bytes, n_queries, rows, stride_bytes, bytes, ids,
                n, out);
}

ROWS_INLINE void q4_dot_four(const void *query, const uint8_t *const r[4], size_t bytes,
                             int32_t sums[4])
{
    avx512_score_nibbles(step_q8_dot, query, r, bytes, sums);
}

static void vnni_q4_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                        const uint32_t *ids, size_t n, int32_t *out)
{
    rows_score(q4_dot_four, query, rows, stride_bytes, bytes, ids, n, out);
}

ROWS_KERNEL(static, vnni_bits_xor, uint8_t, avx512_score_four, step_bits_xor)
ROWS_KERNEL(static, vnni_bits_and, uint8_t, avx512_score_four, step_bits_and)

TARGET_END

const struct kernels kernels_avx512vnni = {
    .name = "avx512vnni",
    .f32_dot = avx512_f32_dot,
    .f32_l2 = avx512_f32_l2,
    .f32_l1 = avx512_f32_l1,
    .f16_dot = avx512_f16_dot,
    .f16_l2 = avx512_f16_l2,
    .f16_l1 = avx512_f16_l1,
    .bf16_dot = avx512_bf16_dot,
    .bf16_l2 = avx512_bf16_l2,
    .bf16_l1 = avx512_bf16_l1,
    .q8_dot = vnni_q8_dot,
    .q8_tile = vnni_q8_tile,
    .q8_pick = avx512_q8_pick,
    .q4_dot = vnni_q4_dot,
    .q8_l1 = avx512_q8_l1,
    .bits_xor = vnni_bits_xor,
    .bits_and = vnni_bits_and,
    .lut16_sum = avx512_lut16_sum,
    .f32_hadamard = avx512_f32_hadamard,
    .f32_flip = avx512_f32_flip,
    .u64_merge = avx512_u64_merge,
    .bits_mark = avx512_bits_mark,
};

#endif
