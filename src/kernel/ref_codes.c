/*
 * ref_codes.c - the kernels for codes of 4 bits and of 16-bit floats in plain C: their meaning, as
 * ref.c has it for the others.
 */
#include <math.h>

#include "base/half.h"
#include "kernel/kernel.h"

enum { LANES = 32 };

typedef float half_widen(uint16_t half);
typedef float half_step(float sum, float a, float b);

static float step_dot(float sum, float a, float b)
{
    return fmaf(a, b, sum);
}

static float step_l2(float sum, float a, float b)
{
    float difference = a - b;
    return fmaf(difference, difference, sum);
}

static float step_l1(float sum, float a, float b)
{
    return sum + fabsf(a - b);
}

static float sum_halves(half_step *step, half_widen *widen, const float *a, const uint16_t *b,
                        size_t n)
{
    float lanes[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % LANES] = step(lanes[i % LANES], a[i], widen(b[i]));
    }
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t j = 0; j < half; j++) {
            lanes[j] += lanes[j + half];
        }
    }
    return lanes[0];
}

#define HALF_KERNEL(name, step, widen)                      \
    float name(const float *a, const uint16_t *b, size_t n) \
    {                                                       \
        return sum_halves(step, widen, a, b, n);            \
    }

HALF_KERNEL(ref_f16_dot, step_dot, f16_widen)
HALF_KERNEL(ref_f16_l2, step_l2, f16_widen)
HALF_KERNEL(ref_f16_l1, step_l1, f16_widen)
HALF_KERNEL(ref_bf16_dot, step_dot, bf16_widen)
HALF_KERNEL(ref_bf16_l2, step_l2, bf16_widen)
HALF_KERNEL(ref_bf16_l1, step_l1, bf16_widen)

void ref_q4_dot(const int8_t *query, const uint8_t *rows, size_t stride_bytes, size_t bytes,
                const uint32_t *ids, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = rows + (size_t)(ids ? ids[i] : i) * stride_bytes;
        int32_t sum = 0;
        for (size_t j = 0; j < bytes; j++) {
            const int8_t *low = query + j / 64 * 128 + j % 64;
            sum += (row[j] & 15) * low[0] + (row[j] >> 4) * low[64];
        }
        out[i] = sum;
    }
}
