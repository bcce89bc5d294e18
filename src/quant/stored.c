/*
 * stored.c - vectors as an index keeps them: see stored.h.
 */
#include "quant/stored.h"

#include <math.h>

#include "base/half.h"

size_t stored_bytes(const struct codec *codec, annex_codes stored)
{
    return stored == ANNEX_CODES_AUTO ? codec_vector_bytes(codec)
                                      : codec->dimension * sizeof(uint16_t);
}

bool stored_holds(const struct codec *codec, annex_codes stored, const float *vector)
{
    bool limited = stored == ANNEX_CODES_F16 && codec->metric != ANNEX_COSINE;
    for (uint32_t j = 0; limited && j < codec->dimension; j++) {
        if (fabsf(vector[j]) > F16_LARGEST) {
            return false;
        }
    }
    return true;
}

annex_status stored_refuse(const char *what, annex_error *error)
{
    return error_set(error, ANNEX_INVALID,
                     "%s has an element beyond %g, the largest that is stored as f16; store "
                     "vectors as bf16, or whole",
                     what, (double)F16_LARGEST);
}

static uint16_t narrow(annex_codes stored, float x)
{
    return stored == ANNEX_CODES_F16 ? f16_narrow(x) : bf16_narrow(x);
}

static float widen(annex_codes stored, uint16_t half)
{
    return stored == ANNEX_CODES_F16 ? f16_widen(half) : bf16_widen(half);
}

void stored_round(const struct codec *codec, annex_codes stored, const float *vector, float *to)
{
    for (uint32_t j = 0; j < codec->dimension; j++) {
        to[j] = stored == ANNEX_CODES_AUTO ? vector[j] : widen(stored, narrow(stored, vector[j]));
    }
}

void stored_pack(const struct codec *codec, annex_codes stored, const void *vector, void *to)
{
    const float *x = vector;
    uint16_t *halves = to;
    if (stored == ANNEX_CODES_AUTO) {
        memcpy(to, vector, codec_vector_bytes(codec));
        return;
    }
    for (uint32_t j = 0; j < codec->dimension; j++) {
        halves[j] = narrow(stored, x[j]);
    }
}

void stored_unpack(const struct codec *codec, annex_codes stored, const void *from, void *vector)
{
    const uint16_t *halves = from;
    float *x = vector;
    if (stored == ANNEX_CODES_AUTO) {
        memcpy(vector, from, codec_vector_bytes(codec));
        return;
    }
    for (uint32_t j = 0; j < codec->dimension; j++) {
        x[j] = widen(stored, halves[j]);
    }
}

float stored_exact(const struct query *query, annex_codes stored, const void *from)
{
    const struct codec *codec = query->codec;
    const struct kernels *k = codec->kernels;
    bool f16 = stored == ANNEX_CODES_F16;
    size_t n = codec->dimension;
    if (stored == ANNEX_CODES_AUTO) {
        return codec_exact(query, from);
    }
    switch (codec->metric) {
    case ANNEX_IP:
        return -(f16 ? k->f16_dot : k->bf16_dot)(query->vector, from, n);
    case ANNEX_L1:
        return (f16 ? k->f16_l1 : k->bf16_l1)(query->vector, from, n);
    default:
        return (f16 ? k->f16_l2 : k->bf16_l2)(query->vector, from, n);
    }
}
