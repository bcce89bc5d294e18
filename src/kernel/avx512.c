/*
 * avx512.c - kernels for AVX-512 without VNNI: registers of 64 bytes. The 32 lanes of a float sum
 * are two registers; bytes are multiplied as in avx2.c.
 */
#include "kernel/kernel.h"

#if defined(__x86_64__)

#    include "kernel/avx512_tile.h"

TARGET_BEGIN(AVX512_PLAIN)

/*
 * Elements from..n-1, at most a register of them. The other lanes take no part: to step them by
 * zero would turn a sum of -0 to 0.
 */
ROWS_INLINE __m512 step_tail(avx512_float_step *step, __m512 sum, const float *a, const float *b,
                             size_t from, size_t n)
{
    from = from < n ? from : n;
    __mmask16 mask = n - from < 16 ? (__mmask16)((1u << (n - from)) - 1) : (__mmask16)0xffff;
    __m512 stepped =
        step(sum, _mm512_maskz_loadu_ps(mask, a + from), _mm512_maskz_loadu_ps(mask, b + from));
    return _mm512_mask_mov_ps(sum, mask, stepped);
}

ROWS_INLINE float sum_floats(avx512_float_step *step, const float *a, const float *b, size_t n)
{
    __m512 low = _mm512_setzero_ps(), high = low;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        low = step(low, _mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
        high = step(high, _mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16));
    }
    if (i < n) {
        low = step_tail(step, low, a, b, i, n);
        high = step_tail(step, high, a, b, i + 16, n);
    }
    __m512 sixteen = _mm512_add_ps(low, high);
    __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

float avx512_f32_dot(const float *a, const float *b, size_t n)
{
    return sum_floats(avx512_step_dot, a, b, n);
}

float avx512_f32_l2(const float *a, const float *b, size_t n)
{
    return sum_floats(avx512_step_l2, a, b, n);
}

float avx512_f32_l1(const float *a, const float *b, size_t n)
{
    return sum_floats(avx512_step_l1, a, b, n);
}

ROWS_INLINE __m512i step_q8_dot(__m512i sum, __m512i row, __m512i query)
{
    __m512i row_even = _mm512_and_si512(row, _mm512_set1_epi16(0x00ff));
    __m512i row_odd = _mm512_srli_epi16(row, 8);
    __m512i query_even = _mm512_srai_epi16(_mm512_slli_epi16(query, 8), 8);
    __m512i query_odd = _mm512_srai_epi16(query, 8);
    __m512i even = _mm512_madd_epi16(row_even, query_even);
    __m512i odd = _mm512_madd_epi16(row_odd, query_odd);
    return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}

/* Few are picked: their numbers are written one by one. */
uint32_t avx512_q8_pick(const int32_t *dots, const float *scales, const float *biases, size_t n,
                        int32_t offset, float factor, float limit, uint32_t *picked)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 rows = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xffff;
        __m512i dot =
            _mm512_sub_epi32(_mm512_maskz_loadu_epi32(rows, dots + i), _mm512_set1_epi32(offset));
        __m512 scaled =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(rows, scales + i), _mm512_cvtepi32_ps(dot));
        __m512 score = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, biases + i),
                                     _mm512_mul_ps(_mm512_set1_ps(factor), scaled));
        unsigned near = _mm512_mask_cmp_ps_mask(rows, score, _mm512_set1_ps(limit), _CMP_NGT_UQ);
        for (; near; near &= near - 1) {
            picked[count++] = (uint32_t)i + (uint32_t)__builtin_ctz(near);
        }
    }
    return count;
}

ROWS_INLINE __m512i step_q8_l1(__m512i sum, __m512i row, __m512i query)
{
    return _mm512_add_epi32(sum, _mm512_sad_epu8(row, query));
}

/* Counts the bits of each half byte by a table of 16. */
ROWS_INLINE __m512i step_bits(__m512i sum, __m512i v)
{
    const __m512i bits =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i half = _mm512_set1_epi8(15);
    __m512i low = _mm512_shuffle_epi8(bits, _mm512_and_si512(v, half));
    __m512i high = _mm512_shuffle_epi8(bits, _mm512_and_si512(_mm512_srli_epi16(v, 4), half));
    __m512i counts = _mm512_add_epi8(low, high);
    return _mm512_add_epi32(sum, _mm512_sad_epu8(counts, _mm512_setzero_si512()));
}

ROWS_INLINE __m512i step_bits_xor(__m512i sum, __m512i row, __m512i query)
{
    return step_bits(sum, _mm512_xor_si512(row, query));
}

ROWS_INLINE __m512i step_bits_and(__m512i sum, __m512i row, __m512i query)
{
    return step_bits(sum, _mm512_and_si512(row, query));
}

ROWS_KERNEL(static, avx512_q8_dot, int8_t, avx512_score_four, step_q8_dot)
ROWS_KERNEL(, avx512_q8_l1, uint8_t, avx512_score_four, step_q8_l1)
static void avx512_q8_tile(const int8_t *queries, size_t query_stride_bytes, size_t n_queries,
                           const uint8_t *rows, size_t stride_bytes, size_t bytes,
                           const uint32_t *ids, size_t n, int32_t *out)
{
    avx512_tile(step_q8_dot, queries, query_stride_bytes, n_queries, rows, stride_bytes, bytes, ids,
                n, out);
}

ROWS_KERNEL(static, avx512_bits_xor, uint8_t, avx512_score_four, step_bits_xor)
ROWS_KERNEL(static, avx512_bits_and, uint8_t, avx512_score_four, step_bits_and)

/* Bytes are summed as in avx2.c, four groups in a register. */
struct lut_sums {
    __m512i both, upper;
};

ROWS_INLINE void add_bytes(struct lut_sums *sums, __m512i found)
{
    sums->both = _mm512_add_epi16(sums->both, found);
    sums->upper = _mm512_add_epi16(sums->upper, _mm512_srli_epi16(found, 8));
}

ROWS_INLINE void add_groups(struct lut_sums sums[2], __m512i lut, __m512i block)
{
    const __m512i half = _mm512_set1_epi8(15);
    add_bytes(&sums[0], _mm512_shuffle_epi8(lut, _mm512_and_si512(block, half)));
    add_bytes(&sums[1],
              _mm512_shuffle_epi8(lut, _mm512_and_si512(_mm512_srli_epi16(block, 4), half)));
}

/* The sum of four quarters of a register. */
ROWS_INLINE __m128i sum_quarters(__m512i v)
{
    __m256i two = _mm256_add_epi16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_add_epi16(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
}

ROWS_INLINE void store_rows(struct lut_sums sums, uint16_t *to)
{
    __m128i even = sum_quarters(_mm512_sub_epi16(sums.both, _mm512_slli_epi16(sums.upper, 8)));
    __m128i odd = sum_quarters(sums.upper);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128((__m128i *)(to + 8), _mm_unpackhi_epi16(even, odd));
}

void avx512_lut16_sum(const uint8_t *lut, const uint8_t *blocks, size_t groups,
                      uint16_t sums[KERNEL_LUT_ROWS])
{
    struct lut_sums found[2] = {{_mm512_setzero_si512(), _mm512_setzero_si512()},
                                {_mm512_setzero_si512(), _mm512_setzero_si512()}};
    size_t g = 0;
    for (; g + 4 <= groups; g += 4) {
        add_groups(found, _mm512_loadu_si512(lut + 16 * g), _mm512_loadu_si512(blocks + 16 * g));
    }
    if (g < groups) { /* tables of zeros beside the last ones */
        __mmask8 left = (__mmask8)((1u << 2 * (groups - g)) - 1);
        add_groups(found, _mm512_maskz_loadu_epi64(left, lut + 16 * g),
                   _mm512_maskz_loadu_epi64(left, blocks + 16 * g));
    }
    store_rows(found[0], sums);
    store_rows(found[1], sums + 16);
}

/* (a, b) -> (a + b, a - b) within a register: a - b is a + (-b). */
ROWS_INLINE __m512 butterfly(__m512 x, __m512 swapped, __mmask16 second)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    __m512i bits = _mm512_castps_si512(x);
    return _mm512_add_ps(swapped,
                         _mm512_castsi512_ps(_mm512_mask_xor_epi32(bits, second, bits, sign)));
}

void avx512_f32_hadamard(float *x, size_t n, float scale)
{
    if (n < 16) {
        ref_f32_hadamard(x, n, scale);
        return;
    }
    for (size_t length = n / 2; length >= 16; length /= 2) {
        for (size_t i = 0; i < n; i += 2 * length) {
            for (size_t j = i; j < i + length; j += 16) {
                __m512 a = _mm512_loadu_ps(x + j), b = _mm512_loadu_ps(x + j + length);
                _mm512_storeu_ps(x + j, _mm512_add_ps(a, b));
                _mm512_storeu_ps(x + j + length, _mm512_sub_ps(a, b));
            }
        }
    }
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        v = butterfly(v, _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(1, 0, 3, 2)), 0xff00);
        v = butterfly(v, _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(2, 3, 0, 1)), 0xf0f0);
        v = butterfly(v, _mm512_permute_ps(v, _MM_SHUFFLE(1, 0, 3, 2)), 0xcccc);
        v = butterfly(v, _mm512_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1)), 0xaaaa);
        _mm512_storeu_ps(x + i, _mm512_mul_ps(v, _mm512_set1_ps(scale)));
    }
}

void avx512_f32_flip(float *x, const uint32_t *words, size_t n)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512i v = _mm512_loadu_si512(x + i);
        __mmask16 flipped = (__mmask16)(words[i / 32] >> i % 32);
        _mm512_storeu_si512(x + i, _mm512_mask_xor_epi32(v, flipped, v, sign));
    }
    for (; i < n; i++) {
        x[i] = words[i / 32] >> i % 32 & 1 ? -x[i] : x[i];
    }
}

/* How many of from[0..n) are below `item`. */
ROWS_INLINE uint32_t count_below(const uint64_t *from, uint32_t n, uint64_t item)
{
    __m512i wanted = _mm512_set1_epi64((long long)item);
    uint32_t below = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        __mmask8 less = _mm512_cmplt_epu64_mask(_mm512_loadu_si512(from + i), wanted);
        below += (uint32_t)__builtin_popcount(less);
    }
    __mmask8 tail = (__mmask8)((1u << (n - i)) - 1);
    __m512i last = _mm512_maskz_loadu_epi64(tail, from + i);
    return below + (uint32_t)__builtin_popcount(_mm512_mask_cmplt_epu64_mask(tail, last, wanted));
}

/* The same of numbers in ascending order: by halves, without a branch, then by one vector. */
ROWS_INLINE uint32_t count_below_sorted(const uint64_t *from, uint32_t n, uint64_t item)
{
    const uint64_t *first = from;
    while (n > 8) {
        uint32_t half = n / 2;
        first += half & -(uint32_t)(first[half - 1] < item);
        n -= half;
    }
    return (uint32_t)(first - from) + count_below(first, n, item);
}

/* Moves from[0..n) up by `up` places; the ranges may overlap. */
ROWS_INLINE void move_up(uint64_t *from, uint32_t n, uint32_t up)
{
    for (; n >= 8; n -= 8) {
        _mm512_storeu_si512(from + n - 8 + up, _mm512_loadu_si512(from + n - 8));
    }
    __mmask8 rest = (__mmask8)((1u << n) - 1);
    _mm512_mask_storeu_epi64(from + up, rest, _mm512_maskz_loadu_epi64(rest, from));
}

/* Places are counted, not searched: a pool of a search is too short for branches to be learnt. */
uint32_t avx512_u64_merge(uint64_t *sorted, uint32_t size, uint64_t *items, uint32_t n)
{
    enum { MOST = 64 };
    uint64_t ordered[MOST];
    uint32_t below[MOST];
    if (n > MOST) {
        return ref_u64_merge(sorted, size, items, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        ordered[count_below(items, n, items[i])] = items[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        below[i] = count_below_sorted(sorted, size, ordered[i]);
    }
    for (uint32_t i = n, end = size; i-- > 0; end = below[i]) {
        move_up(sorted + below[i], end - below[i], i + 1);
        sorted[below[i] + i] = ordered[i];
    }
    return n ? below[0] : size;
}

/* Most have been marked: those are sorted out 16 at a time, and the rest marked one by one. */
uint32_t avx512_bits_mark(const uint32_t *ids, uint32_t n, uint32_t limit, uint64_t *marks,
                          uint32_t *fresh)
{
    const __m512i limits = _mm512_set1_epi32((int)limit), one = _mm512_set1_epi32(1);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i += 16) {
        __mmask16 there = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffff);
        __m512i v = _mm512_maskz_loadu_epi32(there, ids + i);
        __mmask16 within = _mm512_mask_cmplt_epu32_mask(there, v, limits);
        within &= (__mmask16) ~(within + 1); /* up to the first that is not */
        __m512i words = _mm512_mask_i32gather_epi32(v, within, _mm512_srli_epi32(v, 5), marks, 4);
        __mmask16 new_ones = _mm512_mask_testn_epi32_mask(
            within, words, _mm512_sllv_epi32(one, _mm512_and_si512(v, _mm512_set1_epi32(31))));
        _mm512_storeu_si512(fresh + kept, _mm512_maskz_compress_epi32(new_ones, v));
        kept += (uint32_t)__builtin_popcount(new_ones);
        if (within != 0xffff) {
            break;
        }
    }
    return ref_bits_mark(fresh, kept, limit, marks, fresh);
}

TARGET_END

const struct kernels kernels_avx512 = {
    .name = "avx512",
    .f32_dot = avx512_f32_dot,
    .f32_l2 = avx512_f32_l2,
    .f32_l1 = avx512_f32_l1,
    .f16_dot = avx512_f16_dot,
    .f16_l2 = avx512_f16_l2,
    .f16_l1 = avx512_f16_l1,
    .bf16_dot = avx512_bf16_dot,
    .bf16_l2 = avx512_bf16_l2,
    .bf16_l1 = avx512_bf16_l1,
    .q8_dot = avx512_q8_dot,
    .q8_tile = avx512_q8_tile,
    .q8_pick = avx512_q8_pick,
    .q4_dot = avx512_q4_dot,
    .q8_l1 = avx512_q8_l1,
    .bits_xor = avx512_bits_xor,
    .bits_and = avx512_bits_and,
    .lut16_sum = avx512_lut16_sum,
    .f32_hadamard = avx512_f32_hadamard,
    .f32_flip = avx512_f32_flip,
    .u64_merge = avx512_u64_merge,
    .bits_mark = avx512_bits_mark,
};

#endif
