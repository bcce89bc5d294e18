/*
 * ref.c - the kernels in plain C: the meaning of every other table, and the fall-back for machines
 * that have none of theirs. Written to be read, not to be fast.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"

enum { LANES = 32 };

static float sum_lanes(float lanes[LANES])
{
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t j = 0; j < half; j++) {
            lanes[j] += lanes[j + half];
        }
    }
    return lanes[0];
}

static float ref_f32_dot(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % LANES] = fmaf(a[i], b[i], lanes[i % LANES]);
    }
    return sum_lanes(lanes);
}

static float ref_f32_l2(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        float difference = a[i] - b[i];
        lanes[i % LANES] = fmaf(difference, difference, lanes[i % LANES]);
    }
    return sum_lanes(lanes);
}

static float ref_f32_l1(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % LANES] += fabsf(a[i] - b[i]);
    }
    return sum_lanes(lanes);
}

static const uint8_t *row_at(const uint8_t *rows, size_t stride_bytes, const uint32_t *ids,
                             size_t i)
{
    return rows + (size_t)(ids ? ids[i] : i) * stride_bytes;
}

static void ref_q8_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                       const uint32_t *ids, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = row_at(rows, stride_bytes, ids, i);
        int32_t sum = 0;
        for (size_t j = 0; j < bytes; j++) {
            sum += (int32_t)row[j] * query[j];
        }
        out[i] = sum;
    }
}

static void ref_q8_tile(const int8_t *queries, size_t query_stride_bytes, size_t n_queries,
                        const uint8_t *rows, size_t stride_bytes, size_t bytes, const uint32_t *ids,
                        size_t n, int32_t *out)
{
    for (size_t q = 0; q < n_queries; q++) {
        ref_q8_dot(queries + q * query_stride_bytes, rows, stride_bytes, bytes, ids, n,
                   out + q * n);
    }
}

uint32_t ref_q8_pick(const int32_t *dots, const float *scales, const float *biases, size_t n,
                     int32_t offset, float factor, float limit, uint32_t *picked)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        float score = biases[i] + factor * (scales[i] * (float)(dots[i] - offset));
        picked[count] = (uint32_t)i;
        count += !(score > limit);
    }
    return count;
}

static void ref_q8_l1(const uint8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                      const uint32_t *ids, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = row_at(rows, stride_bytes, ids, i);
        int32_t sum = 0;
        for (size_t j = 0; j < bytes; j++) {
            sum += abs((int32_t)row[j] - query[j]);
        }
        out[i] = sum;
    }
}

static uint64_t load_word(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static void ref_bits_xor(const uint8_t *query, const uint8_t *rows, size_t stride_bytes,
                         size_t bytes, const uint32_t *ids, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = row_at(rows, stride_bytes, ids, i);
        int32_t sum = 0;
        for (size_t j = 0; j < bytes; j += 8) {
            sum += __builtin_popcountll(load_word(row + j) ^ load_word(query + j));
        }
        out[i] = sum;
    }
}

static void ref_bits_and(const uint8_t *query, const uint8_t *rows, size_t stride_bytes,
                         size_t bytes, const uint32_t *ids, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = row_at(rows, stride_bytes, ids, i);
        int32_t sum = 0;
        for (size_t j = 0; j < bytes; j += 8) {
            sum += __builtin_popcountll(load_word(row + j) & load_word(query + j));
        }
        out[i] = sum;
    }
}

static void ref_lut16_sum(const uint8_t *lut, const uint8_t *blocks, size_t groups,
                          uint16_t sums[KERNEL_LUT_ROWS])
{
    memset(sums, 0, KERNEL_LUT_ROWS * sizeof *sums);
    for (size_t g = 0; g < groups; g++) {
        for (size_t j = 0; j < 16; j++) {
            uint8_t both = blocks[16 * g + j];
            sums[j] = (uint16_t)(sums[j] + lut[16 * g + both % 16]);
            sums[j + 16] = (uint16_t)(sums[j + 16] + lut[16 * g + both / 16]);
        }
    }
}

void ref_f32_hadamard(float *x, size_t n, float scale)
{
    for (size_t length = n / 2; length > 0; length /= 2) {
        for (size_t i = 0; i < n; i += 2 * length) {
            for (size_t j = i; j < i + length; j++) {
                float a = x[j], b = x[j + length];
                x[j] = a + b;
                x[j + length] = a - b;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}

void ref_f32_flip(float *x, const uint32_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = words[i / 32] >> i % 32 & 1 ? -x[i] : x[i];
    }
}

uint32_t ref_u64_merge(uint64_t *sorted, uint32_t size, uint64_t *items, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        uint64_t item = items[i];
        uint32_t j = i;
        for (; j > 0 && items[j - 1] > item; j--) {
            items[j] = items[j - 1];
        }
        items[j] = item;
    }
    uint32_t out = size + n;
    while (n > 0) {
        bool from_sorted = size > 0 && sorted[size - 1] > items[n - 1];
        sorted[--out] = from_sorted ? sorted[--size] : items[--n];
    }
    return out;
}

/* No predictor can tell which are new: the stores are made in any case, only the count depends. */
uint32_t ref_bits_mark(const uint32_t *ids, uint32_t n, uint32_t limit, uint64_t *marks,
                       uint32_t *fresh)
{
    uint32_t n_fresh = 0;
    for (uint32_t i = 0; i < n && ids[i] < limit; i++) {
        uint64_t *word = &marks[ids[i] / 64];
        fresh[n_fresh] = ids[i];
        n_fresh += !(*word >> (ids[i] % 64) & 1);
        *word |= UINT64_C(1) << (ids[i] % 64);
    }
    return n_fresh;
}

const struct kernels kernels_ref = {
    .name = "ref",
    .f32_dot = ref_f32_dot,
    .f32_l2 = ref_f32_l2,
    .f32_l1 = ref_f32_l1,
    .f16_dot = ref_f16_dot,
    .f16_l2 = ref_f16_l2,
    .f16_l1 = ref_f16_l1,
    .bf16_dot = ref_bf16_dot,
    .bf16_l2 = ref_bf16_l2,
    .bf16_l1 = ref_bf16_l1,
    .q8_dot = ref_q8_dot,
    .q8_tile = ref_q8_tile,
    .q8_pick = ref_q8_pick,
    .q4_dot = ref_q4_dot,
    .q8_l1 = ref_q8_l1,
    .bits_xor = ref_bits_xor,
    .bits_and = ref_bits_and,
    .lut16_sum = ref_lut16_sum,
    .f32_hadamard = ref_f32_hadamard,
    .f32_flip = ref_f32_flip,
    .u64_merge = ref_u64_merge,
    .bits_mark = ref_bits_mark,
};
