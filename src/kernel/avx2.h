/*
 * avx2.h - what the two AVX2 files share: one step of a float distance.
 *
 * Included by avx2.c and avx2_codes.c alone, inside their target regions.
 */
#ifndef ANNEX_KERNEL_AVX2_H
#define ANNEX_KERNEL_AVX2_H

/* Adds one register of floats of two vectors to a sum. */
typedef __m256 avx2_float_step(__m256 sum, __m256 a, __m256 b);

ROWS_INLINE __m256 avx2_step_dot(__m256 sum, __m256 a, __m256 b)
{
    return _mm256_fmadd_ps(a, b, sum);
}

ROWS_INLINE __m256 avx2_step_l2(__m256 sum, __m256 a, __m256 b)
{
    __m256 difference = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(difference, difference, sum);
}

ROWS_INLINE __m256 avx2_step_l1(__m256 sum, __m256 a, __m256 b)
{
    return _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(a, b)));
}

#endif
