/*
 * avx2.c - kernels for AVX2 with FMA: registers of 32 bytes.
 *
 * The 32 lanes of a float sum are four registers. Bytes are multiplied as 16-bit integers, the even
 * and the odd ones apart: exact, unlike vpmaddubsw, which saturates.
 */
#include "kernel/kernel.h"

#if defined(__x86_64__)

#    include <immintrin.h>

#    include "kernel/rows.h"
#    include "kernel/target.h"

TARGET_BEGIN("avx2,fma,popcnt")

#    include "kernel/avx2.h"

typedef __m256i byte_step(__m256i sum, __m256i row, __m256i query);

/*
 * Elements from..n-1, at most a register of them. The other lanes take no part: to step them by
 * zero would turn a sum of -0 to 0.
 */
ROWS_INLINE __m256 step_tail(avx2_float_step *step, __m256 sum, const float *a, const float *b,
                             size_t from, size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    from = from < n ? from : n;
    __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n - from)), lane);
    __m256 stepped =
        step(sum, _mm256_maskload_ps(a + from, mask), _mm256_maskload_ps(b + from, mask));
    return _mm256_blendv_ps(sum, stepped, _mm256_castsi256_ps(mask));
}

ROWS_INLINE float sum_floats(avx2_float_step *step, const float *a, const float *b, size_t n)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        s0 = step(s0, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        s1 = step(s1, _mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
        s2 = step(s2, _mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16));
        s3 = step(s3, _mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24));
    }
    if (i < n) {
        s0 = step_tail(step, s0, a, b, i, n);
        s1 = step_tail(step, s1, a, b, i + 8, n);
        s2 = step_tail(step, s2, a, b, i + 16, n);
        s3 = step_tail(step, s3, a, b, i + 24, n);
    }
    __m256 eight = _mm256_add_ps(_mm256_add_ps(s0, s2), _mm256_add_ps(s1, s3));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static float avx2_f32_dot(const float *a, const float *b, size_t n)
{
    return sum_floats(avx2_step_dot, a, b, n);
}

static float avx2_f32_l2(const float *a, const float *b, size_t n)
{
    return sum_floats(avx2_step_l2, a, b, n);
}

static float avx2_f32_l1(const float *a, const float *b, size_t n)
{
    return sum_floats(avx2_step_l1, a, b, n);
}

ROWS_INLINE __m256i step_q8_dot(__m256i sum, __m256i row, __m256i query)
{
    __m256i row_even = _mm256_and_si256(row, _mm256_set1_epi16(0x00ff));
    __m256i row_odd = _mm256_srli_epi16(row, 8);
    __m256i query_even = _mm256_srai_epi16(_mm256_slli_epi16(query, 8), 8);
    __m256i query_odd = _mm256_srai_epi16(query, 8);
    __m256i even = _mm256_madd_epi16(row_even, query_even);
    __m256i odd = _mm256_madd_epi16(row_odd, query_odd);
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

ROWS_INLINE __m256i step_q8_l1(__m256i sum, __m256i row, __m256i query)
{
    return _mm256_add_epi32(sum, _mm256_sad_epu8(row, query));
}

/* Counts the bits of each half byte by a table of 16. */
ROWS_INLINE __m256i step_bits(__m256i sum, __m256i v)
{
    const __m256i bits =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i half = _mm256_set1_epi8(15);
    __m256i low = _mm256_shuffle_epi8(bits, _mm256_and_si256(v, half));
    __m256i high = _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16(v, 4), half));
    __m256i counts = _mm256_add_epi8(low, high);
    return _mm256_add_epi32(sum, _mm256_sad_epu8(counts, _mm256_setzero_si256()));
}

ROWS_INLINE __m256i step_bits_xor(__m256i sum, __m256i row, __m256i query)
{
    return step_bits(sum, _mm256_xor_si256(row, query));
}

ROWS_INLINE __m256i step_bits_and(__m256i sum, __m256i row, __m256i query)
{
    return step_bits(sum, _mm256_and_si256(row, query));
}

ROWS_INLINE __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

/* The last bytes of a row of bits, a multiple of 8; zeros behind them change no sum. */
ROWS_INLINE __m256i load_tail(const void *from, size_t left_bytes)
{
    const __m256i word = _mm256_setr_epi64x(0, 1, 2, 3);
    __m256i mask = _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)(left_bytes / 8)), word);
    return _mm256_maskload_epi64((const long long *)from, mask);
}

/* sums[c] = the sum of the eight lanes of s[c] */
ROWS_INLINE void sum_four(const __m256i s[4], int32_t sums[4])
{
    __m256i s01 = _mm256_hadd_epi32(s[0], s[1]);
    __m256i s23 = _mm256_hadd_epi32(s[2], s[3]);
    __m256i all = _mm256_hadd_epi32(s01, s23);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storeu_si128((__m128i *)sums, four);
}

ROWS_INLINE void score_four(byte_step *step, const uint8_t *query, const uint8_t *const r[4],
                            size_t bytes, int32_t sums[4])
{
    __m256i s[4];
    for (size_t c = 0; c < 4; c++) {
        s[c] = _mm256_setzero_si256();
    }
    size_t j = 0;
    for (; j + sizeof *s <= bytes; j += sizeof *s) {
        __m256i q = load(query + j);
        for (size_t c = 0; c < 4; c++) {
            s[c] = step(s[c], load(r[c] + j), q);
        }
    }
    if (j < bytes) {
        __m256i q = load_tail(query + j, bytes - j);
        for (size_t c = 0; c < 4; c++) {
            s[c] = step(s[c], load_tail(r[c] + j, bytes - j), q);
        }
    }
    sum_four(s, sums);
}

ROWS_KERNEL(static, avx2_q8_dot, int8_t, score_four, step_q8_dot)
#    include "kernel/avx2_tile.h"

/* Few are picked: their numbers are written one by one. */
static uint32_t avx2_q8_pick(const int32_t *dots, const float *scales, const float *biases,
                             size_t n, int32_t offset, float factor, float limit, uint32_t *picked)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    uint32_t count = 0;
    for (size_t i = 0; i < n; i += 8) {
        int left = n - i < 8 ? (int)(n - i) : 8;
        __m256i rows = _mm256_cmpgt_epi32(_mm256_set1_epi32(left), lane);
        __m256i dot =
            _mm256_sub_epi32(_mm256_maskload_epi32(dots + i, rows), _mm256_set1_epi32(offset));
        __m256 scaled =
            _mm256_mul_ps(_mm256_maskload_ps(scales + i, rows), _mm256_cvtepi32_ps(dot));
        __m256 score = _mm256_add_ps(_mm256_maskload_ps(biases + i, rows),
                                     _mm256_mul_ps(_mm256_set1_ps(factor), scaled));
        __m256 picks = _mm256_cmp_ps(score, _mm256_set1_ps(limit), _CMP_NGT_UQ);
        unsigned near =
            (unsigned)_mm256_movemask_ps(_mm256_and_ps(picks, _mm256_castsi256_ps(rows)));
        for (; near; near &= near - 1) {
            picked[count++] = (uint32_t)i + (uint32_t)__builtin_ctz(near);
        }
    }
    return count;
}

ROWS_KERNEL(static, avx2_q8_l1, uint8_t, score_four, step_q8_l1)
ROWS_KERNEL(static, avx2_bits_xor, uint8_t, score_four, step_bits_xor)
ROWS_KERNEL(static, avx2_bits_and, uint8_t, score_four, step_bits_and)

/*
 * Bytes are summed as they lie, two in each 16-bit lane, and the upper ones apart: what those have
 * put into the sums of both is taken away at the end. Rows 0, 2, ... are then in the lower bytes.
 */
struct lut_sums {
    __m256i both, upper;
};

ROWS_INLINE void add_bytes(struct lut_sums *sums, __m256i found)
{
    sums->both = _mm256_add_epi16(sums->both, found);
    sums->upper = _mm256_add_epi16(sums->upper, _mm256_srli_epi16(found, 8));
}

ROWS_INLINE void add_groups(struct lut_sums sums[2], __m256i lut, __m256i block)
{
    const __m256i half = _mm256_set1_epi8(15);
    add_bytes(&sums[0], _mm256_shuffle_epi8(lut, _mm256_and_si256(block, half)));
    add_bytes(&sums[1],
              _mm256_shuffle_epi8(lut, _mm256_and_si256(_mm256_srli_epi16(block, 4), half)));
}

/* Sixteen rows: the two groups that were in a register come together. */
ROWS_INLINE void store_rows(struct lut_sums sums, uint16_t *to)
{
    __m256i lower = _mm256_sub_epi16(sums.both, _mm256_slli_epi16(sums.upper, 8));
    __m128i even = _mm_add_epi16(_mm256_castsi256_si128(lower), _mm256_extracti128_si256(lower, 1));
    __m128i odd =
        _mm_add_epi16(_mm256_castsi256_si128(sums.upper), _mm256_extracti128_si256(sums.upper, 1));
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128((__m128i *)(to + 8), _mm_unpackhi_epi16(even, odd));
}

static void avx2_lut16_sum(const uint8_t *lut, const uint8_t *blocks, size_t groups,
                           uint16_t sums[KERNEL_LUT_ROWS])
{
    struct lut_sums found[2] = {{_mm256_setzero_si256(), _mm256_setzero_si256()},
                                {_mm256_setzero_si256(), _mm256_setzero_si256()}};
    size_t g = 0;
    for (; g + 2 <= groups; g += 2) {
        add_groups(found, load(lut + 16 * g), load(blocks + 16 * g));
    }
    if (g < groups) { /* a table of zeros beside the last one */
        __m128i last_lut = _mm_loadu_si128((const __m128i *)(lut + 16 * g));
        __m128i last_block = _mm_loadu_si128((const __m128i *)(blocks + 16 * g));
        add_groups(found, _mm256_zextsi128_si256(last_lut), _mm256_zextsi128_si256(last_block));
    }
    store_rows(found[0], sums);
    store_rows(found[1], sums + 16);
}

/* (a, b) -> (a + b, a - b) within a register: a - b is a + (-b). */
ROWS_INLINE __m256 butterfly(__m256 x, __m256 swapped, __m256 signs)
{
    return _mm256_add_ps(swapped, _mm256_xor_ps(x, signs));
}

static void avx2_f32_hadamard(float *x, size_t n, float scale)
{
    const __m256 fours = _mm256_setr_ps(0, 0, 0, 0, -0.0f, -0.0f, -0.0f, -0.0f);
    const __m256 twos = _mm256_setr_ps(0, 0, -0.0f, -0.0f, 0, 0, -0.0f, -0.0f);
    const __m256 ones = _mm256_setr_ps(0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f);
    if (n < 8) {
        ref_f32_hadamard(x, n, scale);
        return;
    }
    for (size_t length = n / 2; length >= 8; length /= 2) {
        for (size_t i = 0; i < n; i += 2 * length) {
            for (size_t j = i; j < i + length; j += 8) {
                __m256 a = _mm256_loadu_ps(x + j), b = _mm256_loadu_ps(x + j + length);
                _mm256_storeu_ps(x + j, _mm256_add_ps(a, b));
                _mm256_storeu_ps(x + j + length, _mm256_sub_ps(a, b));
            }
        }
    }
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        v = butterfly(v, _mm256_permute2f128_ps(v, v, 1), fours);
        v = butterfly(v, _mm256_permute_ps(v, _MM_SHUFFLE(1, 0, 3, 2)), twos);
        v = butterfly(v, _mm256_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1)), ones);
        _mm256_storeu_ps(x + i, _mm256_mul_ps(v, _mm256_set1_ps(scale)));
    }
}

static void avx2_f32_flip(float *x, const uint32_t *words, size_t n)
{
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i bits = _mm256_srlv_epi32(_mm256_set1_epi32((int)(words[i / 32] >> i % 32)), places);
        __m256 signs = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 31));
        _mm256_storeu_ps(x + i, _mm256_xor_ps(_mm256_loadu_ps(x + i), signs));
    }
    for (; i < n; i++) {
        x[i] = words[i / 32] >> i % 32 & 1 ? -x[i] : x[i];
    }
}

TARGET_END

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .f32_dot = avx2_f32_dot,
    .f32_l2 = avx2_f32_l2,
    .f32_l1 = avx2_f32_l1,
    .f16_dot = avx2_f16_dot,
    .f16_l2 = avx2_f16_l2,
    .f16_l1 = avx2_f16_l1,
    .bf16_dot = avx2_bf16_dot,
    .bf16_l2 = avx2_bf16_l2,
    .bf16_l1 = avx2_bf16_l1,
    .q8_dot = avx2_q8_dot,
    .q8_tile = avx2_q8_tile,
    .q8_pick = avx2_q8_pick,
    .q4_dot = avx2_q4_dot,
    .q8_l1 = avx2_q8_l1,
    .bits_xor = avx2_bits_xor,
    .bits_and = avx2_bits_and,
    .lut16_sum = avx2_lut16_sum,
    .f32_hadamard = avx2_f32_hadamard,
    .f32_flip = avx2_f32_flip,
    .u64_merge = ref_u64_merge,
    .bits_mark = ref_bits_mark,
};

#endif
