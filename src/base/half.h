/*
 * half.h - floats of 16 bits: f16 is IEEE 754 half, bf16 the upper half of an f32.
 *
 * Invariant: widening is exact; narrowing rounds to nearest, ties to even, and what is too large
 * becomes infinite. Written with masks instead of conditions, so that loops are vectorised.
 */
#ifndef ANNEX_HALF_H
#define ANNEX_HALF_H

#include <stdint.h>
#include <string.h>

#define F16_LARGEST 65504.0f

static inline float half_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t half_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float f16_widen(uint16_t half)
{
    int32_t magnitude = half & 0x7fff;
    uint32_t is_normal = 0u - (uint32_t)(magnitude >= 0x0400);
    uint32_t is_special = 0u - (uint32_t)(magnitude >= 0x7c00); /* infinity or NaN */
    /* The exponents are biased by 127 and 15; those of the specials are all ones in both. */
    uint32_t rebias = (UINT32_C(112) << 23) + (is_special & UINT32_C(112) << 23);
    uint32_t normal = ((uint32_t)magnitude << 13) + rebias;
    /* An f16 subnormal counts units of 2^-24, and all of them are normal f32. */
    uint32_t subnormal = half_bits((float)magnitude * 0x1p-24f);
    return half_of_bits((normal & is_normal) | (subnormal & ~is_normal) |
                        (uint32_t)(half & 0x8000u) << 16);
}

static inline uint16_t f16_narrow(float value)
{
    uint32_t bits = half_bits(value), sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u); /* NaN */
    }
    /* Adding 1/2 puts the unit of an f16 subnormal, 2^-24, at the last bit of an f32. */
    uint32_t subnormal = half_bits(half_of_bits(bits) + 0.5f) - half_bits(0.5f);
    uint32_t normal = ((bits + 0xfffu + (bits >> 13 & 1)) >> 13) - (UINT32_C(112) << 10);
    uint32_t largest = bits >= 0x477ff000u ? 0x7c00u : normal; /* rounds to 2^16 */
    return (uint16_t)(sign | (bits < 0x38800000u ? subnormal : largest));
}

static inline float bf16_widen(uint16_t upper)
{
    return half_of_bits((uint32_t)upper << 16);
}

static inline uint16_t bf16_narrow(float value)
{
    uint32_t bits = half_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u); /* NaN stays one */
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

#endif
