/*
 * neon.c - kernels for every 64-bit Arm processor: registers of 16 bytes. The 32 lanes of a float
 * sum are eight registers; bytes are widened to 16 bits before they are multiplied.
 */
#include "kernel/kernel.h"

#if defined(__aarch64__)

#    include <arm_neon.h>
#    include <string.h>

#    include "kernel/rows.h"

typedef float32x4_t float_step(float32x4_t sum, float32x4_t a, float32x4_t b);
typedef int32x4_t byte_step(int32x4_t sum, uint8x16_t row, uint8x16_t query);

enum { LANES = 4, REGISTERS = 8 };

ROWS_INLINE float32x4_t step_f32_dot(float32x4_t sum, float32x4_t a, float32x4_t b)
{
    return vfmaq_f32(sum, a, b);
}

ROWS_INLINE float32x4_t step_f32_l2(float32x4_t sum, float32x4_t a, float32x4_t b)
{
    float32x4_t difference = vsubq_f32(a, b);
    return vfmaq_f32(sum, difference, difference);
}

ROWS_INLINE float32x4_t step_f32_l1(float32x4_t sum, float32x4_t a, float32x4_t b)
{
    return vaddq_f32(sum, vabsq_f32(vsubq_f32(a, b)));
}

/* Only the first `left` lanes take part: to step the others by zero would turn a sum of -0 to 0. */
ROWS_INLINE float32x4_t step_tail(float_step *step, float32x4_t sum, const float *a, const float *b,
                                  size_t left)
{
    static const uint32_t lane[LANES] = {0, 1, 2, 3};
    size_t bytes = (left < LANES ? left : LANES) * sizeof *a;
    float a_tail[LANES] = {0}, b_tail[LANES] = {0};
    memcpy(a_tail, a, bytes);
    memcpy(b_tail, b, bytes);
    float32x4_t stepped = step(sum, vld1q_f32(a_tail), vld1q_f32(b_tail));
    return vbslq_f32(vcltq_u32(vld1q_u32(lane), vdupq_n_u32((uint32_t)left)), stepped, sum);
}

ROWS_INLINE float sum_floats(float_step *step, const float *a, const float *b, size_t n)
{
    float32x4_t s[REGISTERS];
    for (size_t c = 0; c < REGISTERS; c++) {
        s[c] = vdupq_n_f32(0);
    }
    size_t i = 0;
    for (; i + LANES * REGISTERS <= n; i += LANES * REGISTERS) {
        for (size_t c = 0; c < REGISTERS; c++) {
            s[c] = step(s[c], vld1q_f32(a + i + c * LANES), vld1q_f32(b + i + c * LANES));
        }
    }
    if (i < n) {
        for (size_t c = 0; c < REGISTERS; c++) {
            const size_t at = i + c * LANES < n ? i + c * LANES : n;
            s[c] = step_tail(step, s[c], a + at, b + at, n - at);
        }
    }
    for (size_t half = REGISTERS / 2; half > 0; half /= 2) {
        for (size_t c = 0; c < half; c++) {
            s[c] = vaddq_f32(s[c], s[c + half]);
        }
    }
    float32x2_t two = vadd_f32(vget_low_f32(s[0]), vget_high_f32(s[0]));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static float neon_f32_dot(const float *a, const float *b, size_t n)
{
    return sum_floats(step_f32_dot, a, b, n);
}

static float neon_f32_l2(const float *a, const float *b, size_t n)
{
    return sum_floats(step_f32_l2, a, b, n);
}

static float neon_f32_l1(const float *a, const float *b, size_t n)
{
    return sum_floats(step_f32_l1, a, b, n);
}

ROWS_INLINE int32x4_t step_q8_dot(int32x4_t sum, uint8x16_t row, uint8x16_t query)
{
    int16x8_t row_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(row)));
    int16x8_t row_high = vreinterpretq_s16_u16(vmovl_high_u8(row));
    int16x8_t query_low = vmovl_s8(vget_low_s8(vreinterpretq_s8_u8(query)));
    int16x8_t query_high = vmovl_high_s8(vreinterpretq_s8_u8(query));
    sum = vmlal_s16(sum, vget_low_s16(row_low), vget_low_s16(query_low));
    sum = vmlal_high_s16(sum, row_low, query_low);
    sum = vmlal_s16(sum, vget_low_s16(row_high), vget_low_s16(query_high));
    return vmlal_high_s16(sum, row_high, query_high);
}

ROWS_INLINE int32x4_t step_bytes(int32x4_t sum, uint8x16_t v)
{
    return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum), vpaddlq_u8(v)));
}

ROWS_INLINE int32x4_t step_q8_l1(int32x4_t sum, uint8x16_t row, uint8x16_t query)
{
    return step_bytes(sum, vabdq_u8(row, query));
}

ROWS_INLINE int32x4_t step_bits_xor(int32x4_t sum, uint8x16_t row, uint8x16_t query)
{
    return step_bytes(sum, vcntq_u8(veorq_u8(row, query)));
}

ROWS_INLINE int32x4_t step_bits_and(int32x4_t sum, uint8x16_t row, uint8x16_t query)
{
    return step_bytes(sum, vcntq_u8(vandq_u8(row, query)));
}

/* The last 8 bytes of a row of bits; zeros behind them change no sum. */
ROWS_INLINE uint8x16_t load_tail(const uint8_t *from)
{
    return vcombine_u8(vld1_u8(from), vdup_n_u8(0));
}

ROWS_INLINE void score_four(byte_step *step, const uint8_t *query, const uint8_t *const r[4],
                            size_t bytes, int32_t sums[4])
{
    int32x4_t s[4];
    for (size_t c = 0; c < 4; c++) {
        s[c] = vdupq_n_s32(0);
    }
    size_t j = 0;
    for (; j + sizeof(uint8x16_t) <= bytes; j += sizeof(uint8x16_t)) {
        uint8x16_t q = vld1q_u8(query + j);
        for (size_t c = 0; c < 4; c++) {
            s[c] = step(s[c], vld1q_u8(r[c] + j), q);
        }
    }
    if (j < bytes) {
        uint8x16_t q = load_tail(query + j);
        for (size_t c = 0; c < 4; c++) {
            s[c] = step(s[c], load_tail(r[c] + j), q);
        }
    }
    vst1q_s32(sums, vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])));
}

ROWS_KERNEL(static, neon_q8_dot, int8_t, score_four, step_q8_dot)
static void neon_q8_tile(const int8_t *queries, size_t query_stride_bytes, size_t n_queries,
                         const uint8_t *rows, size_t stride_bytes, size_t bytes,
                         const uint32_t *ids, size_t n, int32_t *out)
{
    for (size_t q = 0; q < n_queries; q++) {
        neon_q8_dot(queries + q * query_stride_bytes, rows, stride_bytes, bytes, ids, n,
                    out + q * n);
    }
}

ROWS_KERNEL(static, neon_q8_l1, uint8_t, score_four, step_q8_l1)
ROWS_KERNEL(static, neon_bits_xor, uint8_t, score_four, step_bits_xor)
ROWS_KERNEL(static, neon_bits_and, uint8_t, score_four, step_bits_and)

static void neon_lut16_sum(const uint8_t *lut, const uint8_t *blocks, size_t groups,
                           uint16_t sums[KERNEL_LUT_ROWS])
{
    uint16x8_t s[4] = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0)};
    for (size_t g = 0; g < groups; g++) {
        uint8x16_t table = vld1q_u8(lut + 16 * g), block = vld1q_u8(blocks + 16 * g);
        uint8x16_t low = vqtbl1q_u8(table, vandq_u8(block, vdupq_n_u8(15)));
        uint8x16_t high = vqtbl1q_u8(table, vshrq_n_u8(block, 4));
        s[0] = vaddw_u8(s[0], vget_low_u8(low));
        s[1] = vaddw_high_u8(s[1], low);
        s[2] = vaddw_u8(s[2], vget_low_u8(high));
        s[3] = vaddw_high_u8(s[3], high);
    }
    for (size_t c = 0; c < 4; c++) {
        vst1q_u16(sums + 8 * c, s[c]);
    }
}

const struct kernels kernels_neon = {
    .name = "neon",
    .f32_dot = neon_f32_dot,
    .f32_l2 = neon_f32_l2,
    .f32_l1 = neon_f32_l1,
    .f16_dot = ref_f16_dot,
    .f16_l2 = ref_f16_l2,
    .f16_l1 = ref_f16_l1,
    .bf16_dot = ref_bf16_dot,
    .bf16_l2 = ref_bf16_l2,
    .bf16_l1 = ref_bf16_l1,
    .q8_dot = neon_q8_dot,
    .q8_tile = neon_q8_tile,
    .q8_pick = ref_q8_pick,
    .q4_dot = ref_q4_dot,
    .q8_l1 = neon_q8_l1,
    .bits_xor = neon_bits_xor,
    .bits_and = neon_bits_and,
    .lut16_sum = neon_lut16_sum,
    .f32_hadamard = ref_f32_hadamard,
    .f32_flip = ref_f32_flip,
    .u64_merge = ref_u64_merge,
    .bits_mark = ref_bits_mark,
};

#endif
