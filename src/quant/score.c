/*
 * score.c - scoring rows with a prepared query (query.c has the formulas), bounds of what scores
 * may be off, and exact distances.
 */
#include "quant/codec.h"

#include <math.h>

enum { SCORE_BLOCK = 256 };

static const uint8_t *row_of(const struct codec *codec, const uint8_t *rows, const uint32_t *ids,
                             size_t i)
{
    return rows + (size_t)(ids ? ids[i] : i) * codec->row_bytes;
}

/* Sums of products of row bytes, of q4 times two, with `code`. */
static void dot_products(const struct query *query, const int8_t *code, const uint8_t *rows,
                         const uint32_t *ids, size_t n, int32_t *out)
{
    const struct codec *codec = query->codec;
    if (codec->codes != ANNEX_CODES_Q4) {
        codec->kernels->q8_dot(code, rows, codec->row_bytes, codec->code_bytes, ids, n, out);
        return;
    }
    codec->kernels->q4_dot(code, rows, codec->row_bytes, codec->code_bytes, ids, n, out);
    for (size_t i = 0; i < n; i++) {
        out[i] *= 2;
    }
}

static void products(const struct query *query, const uint8_t *rows, const uint32_t *ids, size_t n,
                     int32_t *out)
{
    const struct codec *codec = query->codec;
    const struct kernels *k = codec->kernels;
    switch (codec->metric) {
    case ANNEX_L1:
        k->q8_l1(query->code, rows, codec->row_bytes, codec->code_bytes, ids, n, out);
        break;
    case ANNEX_HAMMING:
        k->bits_xor(query->code, rows, codec->row_bytes, codec->code_bytes, ids, n, out);
        break;
    case ANNEX_JACCARD:
        k->bits_and(query->code, rows, codec->row_bytes, codec->code_bytes, ids, n, out);
        break;
    case ANNEX_L2:
    case ANNEX_IP:
    case ANNEX_COSINE:
        dot_products(query, (const int8_t *)query->code, rows, ids, n, out);
        break;
    }
}

static float jaccard(float common, float query_bits, float row_bits)
{
    float all = query_bits + row_bits - common;
    return all > 0 ? 1 - common / all : 0;
}

/* scores[i] from products (as floats would lose bits above 2^24, they are subtracted as integers)
 */
static void finish_scores(const struct query *query, const uint8_t *rows, const uint32_t *ids,
                          size_t n, const int32_t *dots, float *scores)
{
    const struct codec *codec = query->codec;
    if (codec->metric == ANNEX_JACCARD) {
        for (size_t i = 0; i < n; i++) {
            float terms[2];
            codec_terms(codec, row_of(codec, rows, ids, i), terms);
            scores[i] = jaccard((float)dots[i], query->a, terms[1]);
        }
        return;
    }
    if (codec->metric == ANNEX_HAMMING) {
        for (size_t i = 0; i < n; i++) {
            scores[i] = (float)dots[i];
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float terms[2];
        codec_terms(codec, row_of(codec, rows, ids, i), terms);
        float dot = (float)(dots[i] - query->offset);
        scores[i] = (query->a + query->b * terms[1]) + (query->c * terms[0]) * dot;
    }
}

/* The sum that the metric asks for, of one row of floats. */
static float float_sum(const struct query *query, const uint8_t *row)
{
    const struct codec *codec = query->codec;
    const struct kernels *k = codec->kernels;
    const float *target = query->target, *floats = (const float *)(const void *)row;
    const uint16_t *halves = (const uint16_t *)(const void *)row;
    bool ip = codec->metric == ANNEX_IP, l1 = codec->metric == ANNEX_L1;
    switch (codec->codes) {
    case ANNEX_CODES_F16:
        return (ip ? k->f16_dot : l1 ? k->f16_l1 : k->f16_l2)(target, halves, codec->dimension);
    case ANNEX_CODES_BF16:
        return (ip ? k->bf16_dot : l1 ? k->bf16_l1 : k->bf16_l2)(target, halves, codec->dimension);
    default:
        return (ip ? k->f32_dot : l1 ? k->f32_l1 : k->f32_l2)(target, floats, codec->dimension);
    }
}

static void score_floats(const struct query *query, const uint8_t *rows, const uint32_t *ids,
                         size_t n, float *scores)
{
    enum { AHEAD = 4, LINE_BYTES = 64 }; /* long rows: few are enough to be under way */
    const struct codec *codec = query->codec;
    size_t fetched = ids ? 0 : n; /* the hardware sees consecutive rows coming */
    for (size_t i = 0; i < n; i++) {
        for (; fetched < n && fetched <= i + AHEAD; fetched++) {
            const uint8_t *row = row_of(codec, rows, ids, fetched);
            for (size_t j = 0; j < codec->row_bytes; j += LINE_BYTES) {
                __builtin_prefetch(row + j);
            }
        }
        const uint8_t *row = row_of(codec, rows, ids, i);
        float terms[2], sum = float_sum(query, row);
        codec_terms(codec, row, terms);
        scores[i] = (query->a + query->b * terms[1]) + query->c * sum;
    }
}

void codec_score(const struct query *query, const uint8_t *rows, const uint32_t *ids, size_t n,
                 float *scores)
{
    if (codec_is_float(query->codec)) {
        score_floats(query, rows, ids, n, scores);
        return;
    }
    int32_t dots[SCORE_BLOCK];
    for (size_t i = 0; i < n; i += SCORE_BLOCK) {
        size_t count = MIN(n - i, SCORE_BLOCK);
        const uint8_t *base = ids ? rows : rows + i * query->codec->row_bytes;
        const uint32_t *some = ids ? ids + i : NULL;
        products(query, base, some, count, dots);
        finish_scores(query, base, some, count, dots, scores + i);
    }
}

void codec_score_fine(const struct query *query, const uint8_t *rows, const uint32_t *ids, size_t n,
                      float *scores)
{
    const struct codec *codec = query->codec;
    codec_score(query, rows, ids, n, scores);
    if (query->exact || codec_is_bits(codec->metric) || codec->metric == ANNEX_L1 ||
        codec_is_float(codec)) {
        return;
    }
    float floor = codec->metric == ANNEX_IP ? -INFINITY : 0;
    int32_t dots[SCORE_BLOCK];
    for (size_t i = 0; i < n; i += SCORE_BLOCK) {
        size_t count = MIN(n - i, SCORE_BLOCK);
        const uint8_t *base = ids ? rows : rows + i * codec->row_bytes;
        const uint32_t *some = ids ? ids + i : NULL;
        dot_products(query, query->fine, base, some, count, dots);
        for (size_t j = 0; j < count; j++) {
            float terms[2];
            codec_terms(codec, row_of(codec, base, some, j), terms);
            float dot = (float)(dots[j] - query->fine_offset) * (1.0f / CODEC_FINE_UNITS);
            float score = scores[i + j] + (query->c * terms[0]) * dot;
            scores[i + j] = MAX(floor, score); /* not before: the coarse score may be below 0 */
        }
    }
}

/* ---- bounds ----------------------------------------------------------------------------------*/

/* Of floats that underflow on the way: products of scales times sums of codes. */
#define TINY 2e-36f

/*
 * What floats may be off, relatively: some ten roundings of a score, and one for every 32 elements
 * of codec_exact, which sums in 32 lanes.
 */
float codec_rounding(const struct codec *codec)
{
    return 2e-6f + 2e-9f * (float)codec->dimension;
}

static float bound(const struct query *query, float score, float error_norm, float sign)
{
    const struct codec *codec = query->codec;
    if (query->exact) {
        return score;
    }
    float rounding = codec_rounding(codec), loss = (error_norm + query->residual) * (1 + rounding);
    switch (codec->metric) {
    case ANNEX_L2:
    case ANNEX_COSINE: {
        float slack = rounding * (query->a + score) + TINY;
        float root = sqrtf(MAX(0, score + sign * slack)) + sign * loss;
        return root > 0 ? root * root * (1 + sign * rounding) : 0;
    }
    case ANNEX_IP: {
        float most = query->norm * (codec->max_norm + error_norm);
        return score +
               sign * (query->norm * error_norm + query->residual * (codec->max_norm + error_norm) +
                       rounding * (most + loss) + TINY);
    }
    case ANNEX_L1:
        return score + sign * (loss + rounding * (score + loss) + TINY);
    case ANNEX_HAMMING:
    case ANNEX_JACCARD:
        break;
    }
    return score;
}

float codec_lower(const struct query *query, float score, float error_norm)
{
    return bound(query, score, error_norm, -1);
}

float codec_upper(const struct query *query, float score, float error_norm)
{
    return bound(query, score, error_norm, 1);
}

/* ---- exact -----------------------------------------------------------------------------------*/

static float exact_bits(const struct query *query, const uint8_t *bits)
{
    size_t bytes = codec_vector_bytes(query->codec);
    uint32_t common = 0, different = 0, count = 0;
    for (size_t j = 0; j < bytes; j++) {
        uint8_t mask = 0xff;
        if (j == bytes - 1 && query->codec->dimension % 8) {
            mask = (uint8_t)((1u << query->codec->dimension % 8) - 1);
        }
        uint8_t row = bits[j] & mask;
        common += (uint32_t)__builtin_popcount(query->code[j] & row);
        different += (uint32_t)__builtin_popcount(query->code[j] ^ row);
        count += (uint32_t)__builtin_popcount(row);
    }
    return query->codec->metric == ANNEX_HAMMING ? (float)different
                                                 : jaccard((float)common, query->a, (float)count);
}

float codec_exact(const struct query *query, const void *vector)
{
    const struct codec *codec = query->codec;
    const struct kernels *k = codec->kernels;
    switch (codec->metric) {
    case ANNEX_L2:
    case ANNEX_COSINE:
        return k->f32_l2(query->vector, vector, codec->dimension);
    case ANNEX_IP:
        return -k->f32_dot(query->vector, vector, codec->dimension);
    case ANNEX_L1:
        return k->f32_l1(query->vector, vector, codec->dimension);
    case ANNEX_HAMMING:
    case ANNEX_JACCARD:
        break;
    }
    return exact_bits(query, vector);
}

double codec_distance(const struct codec *codec, float order)
{
    switch (codec->metric) {
    case ANNEX_L2:
        return sqrt(order);
    case ANNEX_COSINE:
        return order / 2.0; /* |a - b|^2 = 2 - 2 cos for unit vectors */
    default:
        return order;
    }
}

float codec_order(const struct codec *codec, double distance)
{
    switch (codec->metric) {
    case ANNEX_L2:
        return (float)(distance * distance);
    case ANNEX_COSINE:
        return (float)(distance * 2);
    default:
        return (float)distance;
    }
}
