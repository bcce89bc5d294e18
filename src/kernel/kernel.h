/*
 * kernel.h - distances, one table of functions for each instruction set.
 *
 * ref.c is the oracle: plain C that says what every function means. The other tables give the same
 * bits for every input:
 *   1. Integer kernels are exact. 255 * 128 * 65535 < 2^31, so sums of products fit.
 *   2. Float kernels follow one order of operations: element i goes to lane i % 32 by a fused
 *      multiply-add (or an add), then lanes j and j + 16 are added, then j and j + 8, 4, 2, 1.
 * So an index built on one machine is byte for byte the index built on another.
 *
 * The "rows" kernels score many rows against one query: rows ids[0..n), or 0..n when ids is NULL,
 * each at rows + id * stride_bytes. They prefetch rows ahead. Widths are padded by the caller:
 * `bytes` is a multiple of 64 for q8 and 8 for bits, padding is zero.
 *
 * Does not: scale, rotate, rank. Knows nothing of NaN; callers reject it.
 */
#ifndef ANNEX_KERNEL_H
#define ANNEX_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define KERNEL_Q8_MULTIPLE 64  /* q8 rows are padded to this many bytes */
#define KERNEL_Q4_MULTIPLE 64  /* q4 rows: blocks of this many bytes, twice as many elements */
#define KERNEL_BITS_MULTIPLE 8 /* bit rows are padded to this many bytes */
#define KERNEL_LUT_ROWS 32     /* rows of a block that lut16_sum scores at once */
#define KERNEL_MARK_ROOM 16    /* what bits_mark may write behind its answer */
#define KERNEL_LUT_GROUPS 256  /* groups of one call: sums of bytes stay below 2^16 */

struct kernels {
    const char *name;
    /* Sum of a[i] * b[i], (a[i] - b[i])^2, |a[i] - b[i]| over n floats; any alignment. */
    float (*f32_dot)(const float *a, const float *b, size_t n);
    float (*f32_l2)(const float *a, const float *b, size_t n);
    float (*f32_l1)(const float *a, const float *b, size_t n);
    /* The same with b as 16-bit floats, which are widened exactly. */
    float (*f16_dot)(const float *a, const uint16_t *b, size_t n);
    float (*f16_l2)(const float *a, const uint16_t *b, size_t n);
    float (*f16_l1)(const float *a, const uint16_t *b, size_t n);
    float (*bf16_dot)(const float *a, const uint16_t *b, size_t n);
    float (*bf16_l2)(const float *a, const uint16_t *b, size_t n);
    float (*bf16_l1)(const float *a, const uint16_t *b, size_t n);
    /* out[i] = sum of row[j] * query[j]: rows u8, query s8. */
    void (*q8_dot)(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                   const uint32_t *ids, size_t n, int32_t *out);
    /*
     * Many queries at once: out[q * n + i] is what q8_dot gives for query q and row i. Rows are
     * rearranged once for all queries, which pays from four of them on.
     */
    void (*q8_tile)(const int8_t *queries, size_t query_stride_bytes, size_t n_queries,
                    const uint8_t *rows, size_t stride_bytes, size_t bytes, const uint32_t *ids,
                    size_t n, int32_t *out);
    /*
     * Writes the i in 0..n with biases[i] + factor * (scales[i] * (dots[i] - offset)) at
     * most `limit`, or no number, to `picked` in ascending order; returns how many.
     */
    uint32_t (*q8_pick)(const int32_t *dots, const float *scales, const float *biases, size_t n,
                        int32_t offset, float factor, float limit, uint32_t *picked);
    /*
     * The same for rows of half bytes: of the 128 elements in a block of 64 bytes, byte j holds
     * element j in its low half and element j + 64 in its high half. The query has an s8 for each.
     */
    void (*q4_dot)(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                   const uint32_t *ids, size_t n, int32_t *out);
    /* out[i] = sum of |row[j] - query[j]|, both u8. */
    void (*q8_l1)(const uint8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                  const uint32_t *ids, size_t n, int32_t *out);
    /* out[i] = number of set bits of row ^ query, row & query. */
    void (*bits_xor)(const uint8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                     const uint32_t *ids, size_t n, int32_t *out);
    void (*bits_and)(const uint8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                     const uint32_t *ids, size_t n, int32_t *out);
    /*
     * A look-up table for each group of a code's dimensions, a block of 32 rows at a time:
     * sums[r] = sum of lut[16 * g + nibble of row r in group g] over g < groups, at most
     * KERNEL_LUT_GROUPS of them, so that no sum overflows. The 16 bytes of a group hold the nibbles
     * of its rows: byte j that of row j in its low half, of row j + 16 in its high half.
     */
    void (*lut16_sum)(const uint8_t *lut, const uint8_t *blocks, size_t groups,
                      uint16_t sums[KERNEL_LUT_ROWS]);
    /*
     * The fast Hadamard transform of x[0..n), n a power of two, times scale: for lengths n / 2, …,
     * 1, pairs (a, b) that far apart become (a + b, a - b).
     */
    void (*f32_hadamard)(float *x, size_t n, float scale);
    /* Changes the sign of x[i] where bit i % 32 of words[i / 32] is set. */
    void (*f32_flip)(float *x, const uint32_t *words, size_t n);
    /*
     * Merges items[0..n), distinct and in any order, into sorted[0..size), which has room for n
     * more. Returns the lowest position that changed, or size + n when n is 0. May reorder items.
     */
    uint32_t (*u64_merge)(uint64_t *sorted, uint32_t size, uint64_t *items, uint32_t n);
    /*
     * Sets bit id of marks for each id of ids[0..n) up to the first that is not below limit, and
     * copies those that were not set to fresh, which has room for n + KERNEL_MARK_ROOM; returns how
     * many.
     */
    uint32_t (*bits_mark)(const uint32_t *ids, uint32_t n, uint32_t limit, uint64_t *marks,
                          uint32_t *fresh);
};

/* The table for this machine: the best it can run, or the one that ANNEX_CPU names. */
const struct kernels *kernel_table(void);
/* The i-th table this machine can run, slowest first; NULL past the last. */
const struct kernels *kernel_available(size_t i);

/* In ref.c and ref_codes.c, for tables that cannot do it better. */
uint32_t ref_q8_pick(const int32_t *dots, const float *scales, const float *biases, size_t n,
                     int32_t offset, float factor, float limit, uint32_t *picked);
void ref_f32_hadamard(float *x, size_t n, float scale);
void ref_f32_flip(float *x, const uint32_t *words, size_t n);
uint32_t ref_u64_merge(uint64_t *sorted, uint32_t size, uint64_t *items, uint32_t n);
uint32_t ref_bits_mark(const uint32_t *ids, uint32_t n, uint32_t limit, uint64_t *marks,
                       uint32_t *fresh);
float ref_f16_dot(const float *a, const uint16_t *b, size_t n);
float ref_f16_l2(const float *a, const uint16_t *b, size_t n);
float ref_f16_l1(const float *a, const uint16_t *b, size_t n);
float ref_bf16_dot(const float *a, const uint16_t *b, size_t n);
float ref_bf16_l2(const float *a, const uint16_t *b, size_t n);
float ref_bf16_l1(const float *a, const uint16_t *b, size_t n);
void ref_q4_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                const uint32_t *ids, size_t n, int32_t *out);

extern const struct kernels kernels_ref;
#if defined(__x86_64__)
/* In avx2_codes.c and avx512_codes.c. */
float avx2_f16_dot(const float *a, const uint16_t *b, size_t n);
float avx2_f16_l2(const float *a, const uint16_t *b, size_t n);
float avx2_f16_l1(const float *a, const uint16_t *b, size_t n);
float avx2_bf16_dot(const float *a, const uint16_t *b, size_t n);
float avx2_bf16_l2(const float *a, const uint16_t *b, size_t n);
float avx2_bf16_l1(const float *a, const uint16_t *b, size_t n);
void avx2_q4_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                 const uint32_t *ids, size_t n, int32_t *out);
float avx512_f16_dot(const float *a, const uint16_t *b, size_t n);
float avx512_f16_l2(const float *a, const uint16_t *b, size_t n);
float avx512_f16_l1(const float *a, const uint16_t *b, size_t n);
float avx512_bf16_dot(const float *a, const uint16_t *b, size_t n);
float avx512_bf16_l2(const float *a, const uint16_t *b, size_t n);
float avx512_bf16_l1(const float *a, const uint16_t *b, size_t n);
void avx512_q4_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                   const uint32_t *ids, size_t n, int32_t *out);

extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
extern const struct kernels kernels_avx512vnni;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
#endif

#endif
