/*
 * query.c - preparing a query and scoring rows with it.
 *
 * Every q8 score is  a + b * bias + c * scale * dot,  dot = sum of (row code - 128) * query code:
 *
 *   l2, cosine  |q - x|^2 = |q|^2 + |x|^2 - 2 <q, x>   a = |q|^2  b = 1        c = -2 * unit
 *               (q as code and fine have it, so that the sum is the square of a distance)
 *   ip          -<q, x>                                a = 0      b = 0        c = -unit
 *   ip, row     2 M^2 - 2 (<x, y> + e_x e_y)           a = 2 M^2  b = -2 e_x   c = -2 * unit
 *   l1          scale * sum |q - x|                    a = 0      b = 0        c = 1
 *
 * The last but one is the augmented metric for building under ip (Bachrach et al., RecSys 2014):
 * each row gets the coordinate e = sqrt(M^2 - |x|^2), which makes all norms M and l2 order the ip
 * order.
 */
#include "quant/codec.h"

#include <float.h>
#include <math.h>

size_t codec_query_bytes(const struct codec *codec)
{
    size_t vector_bytes = round_up(codec->dimension * sizeof(float), 64);
    return vector_bytes + 2 * round_up(codec->code_bytes, 64);
}

void codec_query_init(const struct codec *codec, struct query *query, void *memory)
{
    size_t vector_bytes = round_up(codec->dimension * sizeof(float), 64);
    *query = (struct query){.codec = codec};
    query->vector = memory;
    query->code = (uint8_t *)memory + vector_bytes;
    query->fine = (int8_t *)query->code + round_up(codec->code_bytes, 64);
}

/* ---- preparing -------------------------------------------------------------------------------*/

static void set_bits(struct query *query, const void *vector)
{
    const struct codec *codec = query->codec;
    size_t bytes = codec_vector_bytes(codec);
    memset(query->code, 0, codec->code_bytes);
    memcpy(query->code, vector, bytes);
    if (codec->dimension % 8) {
        query->code[bytes - 1] &= (uint8_t)((1u << codec->dimension % 8) - 1);
    }
    uint32_t count = 0;
    for (size_t j = 0; j < bytes; j++) {
        count += (uint32_t)__builtin_popcount(query->code[j]);
    }
    query->a = (float)count; /* jaccard: bits of the query */
    query->c = 1;
    query->exact = true;
}

static void set_l1(struct query *query)
{
    const struct codec *codec = query->codec;
    double lost = 0;
    memset(query->code, 128, codec->code_bytes);
    for (uint32_t j = 0; j < codec->dimension; j++) {
        float level = codec_round((query->vector[j] - codec->center[j]) / codec->fixed_scale);
        int32_t code = codec_clamp(level);
        query->code[j] = (uint8_t)(code + 128);
        lost += fabs((double)query->vector[j] -
                     ((double)codec->center[j] + (double)codec->fixed_scale * code));
    }
    query->c = 1;
    query->residual = (float)lost;
    query->exact = codec->lossless && lost == 0;
}

/* The unit of the query's code: 1 when codec and query are bytes, otherwise its largest element. */
static float query_unit(const struct query *query)
{
    const struct codec *codec = query->codec;
    float largest = 0;
    bool bytes = codec->lossless;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        float centred = query->vector[j] - codec->center[j];
        largest = MAX(largest, fabsf(centred));
        bytes = bytes && centred >= -128 && centred <= 127 && centred == codec_round(centred);
    }
    if (bytes) {
        return 1;
    }
    return largest > 0 ? MAX(largest / 127, FLT_MIN) : 1;
}

static void set_q8(struct query *query)
{
    const struct codec *codec = query->codec;
    int8_t *code = (int8_t *)query->code;
    float unit = query_unit(query);
    float inverse = 1 / unit;
    double norm_squared = 0, lost_squared = 0;
    int32_t sum = 0, fine_sum = 0;
    memset(code, 0, codec->code_bytes);
    memset(query->fine, 0, codec->code_bytes);
    for (uint32_t j = 0; j < codec->dimension; j++) {
        float centred = query->vector[j] - codec->center[j];
        float level = centred * inverse;
        code[j] = (int8_t)codec_clamp(codec_round(level));
        query->fine[j] =
            (int8_t)codec_clamp(codec_round((level - (float)code[j]) * CODEC_FINE_UNITS));
        sum += code[j];
        fine_sum += query->fine[j];
        double coded = (double)unit * (code[j] + (double)query->fine[j] / CODEC_FINE_UNITS);
        double lost = centred - coded;
        lost_squared += lost * lost;
        norm_squared += coded * coded;
    }
    query->scale = unit;
    query->offset = 128 * sum;
    query->fine_offset = 128 * fine_sum;
    query->residual = (float)sqrt(lost_squared);
    query->norm = (float)sqrt(norm_squared);
    bool ip = codec->metric == ANNEX_IP;
    query->a = ip ? 0 : (float)norm_squared;
    query->b = ip ? 0 : 1;
    query->c = ip ? -unit : -2 * unit;
    /* Sums stay below 2^24, where floats count without gaps, up to 256 dimensions. */
    query->exact = codec->lossless && unit == 1 && lost_squared == 0 && codec->dimension <= 256;
}

bool codec_query_set_exact(struct query *query, const void *vector)
{
    const struct codec *codec = query->codec;
    if (codec_is_bits(codec->metric)) {
        set_bits(query, vector);
        return true;
    }
    if (codec->metric == ANNEX_COSINE) {
        return codec_normalize(vector, query->vector, codec->dimension);
    }
    memcpy(query->vector, vector, codec->dimension * sizeof(float));
    return true;
}

void codec_query_set(struct query *query, const void *vector)
{
    const struct codec *codec = query->codec;
    query->scale = 1;
    query->offset = query->fine_offset = 0;
    query->a = query->b = query->c = query->residual = query->norm = 0;
    query->exact = false;
    codec_query_set_exact(query, vector);
    if (codec->metric == ANNEX_L1) {
        set_l1(query);
    } else if (!codec_is_bits(codec->metric)) {
        set_q8(query);
    }
}

static void load_terms(const struct codec *codec, const uint8_t *row, float terms[2])
{
    memcpy(terms, row + codec->code_bytes, CODEC_TERM_BYTES);
}

void codec_query_set_row(struct query *query, const uint8_t *row)
{
    const struct codec *codec = query->codec;
    float terms[2];
    load_terms(codec, row, terms);
    memcpy(query->code, row, codec->code_bytes);
    query->offset = 0;
    query->c = 1;
    if (codec_is_bits(codec->metric)) {
        query->a = terms[1];
        return;
    }
    if (codec->metric == ANNEX_L1) {
        query->a = query->b = 0;
        return;
    }
    uint8_t *restrict code = query->code; /* restrict: lets compilers do 16 bytes at a time */
    uint32_t n = codec->code_bytes;
    int32_t sum = 0;
    for (uint32_t j = 0; j < n; j++) {
        sum += code[j];
    }
    for (uint32_t j = 0; j < n; j++) {
        code[j] ^= 0x80; /* u8 around 128 -> s8 around 0 */
    }
    sum -= 128 * (int32_t)n;
    bool ip = codec->metric == ANNEX_IP;
    query->offset = 128 * sum;
    query->a = ip ? 2 * codec->max_norm * codec->max_norm : terms[1];
    query->b = ip ? -2 * terms[1] : 1;
    query->c = -2 * terms[0];
}

/* ---- scoring ---------------------------------------------------------------------------------*/

enum { SCORE_BLOCK = 256 };

static const uint8_t *row_of(const struct codec *codec, const uint8_t *rows, const uint32_t *ids,
                             size_t i)
{
    return rows + (size_t)(ids ? ids[i] : i) * codec->row_bytes;
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
        k->q8_dot((const int8_t *)query->code, rows, codec->row_bytes, codec->code_bytes, ids, n,
                  out);
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
            load_terms(codec, row_of(codec, rows, ids, i), terms);
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
        load_terms(codec, row_of(codec, rows, ids, i), terms);
        float dot = (float)(dots[i] - query->offset);
        scores[i] = (query->a + query->b * terms[1]) + (query->c * terms[0]) * dot;
    }
}

void codec_score(const struct query *query, const uint8_t *rows, const uint32_t *ids, size_t n,
                 float *scores)
{
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
    if (query->exact || codec_is_bits(codec->metric) || codec->metric == ANNEX_L1) {
        return;
    }
    float floor = codec->metric == ANNEX_IP ? -INFINITY : 0;
    int32_t dots[SCORE_BLOCK];
    for (size_t i = 0; i < n; i += SCORE_BLOCK) {
        size_t count = MIN(n - i, SCORE_BLOCK);
        const uint8_t *base = ids ? rows : rows + i * codec->row_bytes;
        const uint32_t *some = ids ? ids + i : NULL;
        codec->kernels->q8_dot(query->fine, base, codec->row_bytes, codec->code_bytes, some, count,
                               dots);
        for (size_t j = 0; j < count; j++) {
            float terms[2];
            load_terms(codec, row_of(codec, base, some, j), terms);
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
