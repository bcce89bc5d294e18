/*
 * query.c - preparing a query. score.c scores rows with it.
 *
 * Every score of bytes is  a + b * bias + c * scale * dot,  dot = sum of row level * query code,
 * with levels code - 128 (q8) or 2 * code - 15 (q4):
 *
 *   l2, cosine  |q - x|^2 = |q|^2 + |x|^2 - 2 <q, x>   a = |q|^2  b = 1        c = -2 * unit
 *               (q as code and fine have it, so that the sum is the square of a distance)
 *   ip          -<q, x>                                a = 0      b = 0        c = -unit
 *   ip, row     2 M^2 - 2 (<x, y> + e_x e_y)           a = 2 M^2  b = -2 e_x   c = -2 * unit
 *   l1          scale * sum |q - x|                    a = 0      b = 0        c = 1
 *
 * The last but one is the augmented metric for building under ip (Bachrach et al., RecSys 2014):
 * each row gets the coordinate e = sqrt(M^2 - |x|^2), which makes all norms M and l2 order the ip
 * order. Floats are scored by the kernels directly, without a detour over products but for ip.
 */
#include "quant/codec.h"

#include <float.h>
#include <math.h>

/* Bytes of a query's code: one for each element of a padded row. */
static size_t query_code_bytes(const struct codec *codec)
{
    return codec_is_float(codec)            ? 0
           : codec->codes == ANNEX_CODES_Q4 ? 2 * (size_t)codec->code_bytes
                                            : codec->code_bytes;
}

size_t codec_query_bytes(const struct codec *codec)
{
    size_t vector_bytes = round_up(codec->dimension * sizeof(float), 64);
    return 2 * vector_bytes + 2 * round_up(query_code_bytes(codec), 64);
}

void codec_query_init(const struct codec *codec, struct query *query, void *memory)
{
    size_t vector_bytes = round_up(codec->dimension * sizeof(float), 64);
    *query = (struct query){.codec = codec};
    query->vector = memory;
    query->target = (float *)(void *)((char *)memory + vector_bytes);
    query->code = (uint8_t *)memory + 2 * vector_bytes;
    query->fine = (int8_t *)query->code + round_up(query_code_bytes(codec), 64);
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

enum { QUERY_LANES = 8 }; /* sums in lanes: one chain of additions would take most of the time */

static float largest_element(const float *x, uint32_t n)
{
    float lanes[QUERY_LANES] = {0}, largest = 0;
    for (uint32_t j = 0; j + QUERY_LANES <= n; j += QUERY_LANES) {
        for (uint32_t i = 0; i < QUERY_LANES; i++) {
            lanes[i] = MAX(lanes[i], fabsf(x[j + i]));
        }
    }
    for (uint32_t j = n - n % QUERY_LANES; j < n; j++) {
        lanes[0] = MAX(lanes[0], fabsf(x[j]));
    }
    for (uint32_t i = 0; i < QUERY_LANES; i++) {
        largest = MAX(largest, lanes[i]);
    }
    return largest;
}

/* The unit of the query's code: 1 when codec and query are bytes, otherwise its largest element. */
static float query_unit(const struct query *query)
{
    const struct codec *codec = query->codec;
    bool bytes = codec->lossless;
    for (uint32_t j = 0; bytes && j < codec->dimension; j++) {
        float x = query->target[j];
        bytes = x >= -128 && x <= 127 && x == codec_round(x);
    }
    float largest = largest_element(query->target, codec->dimension);
    if (bytes) {
        return 1;
    }
    return largest > 0 ? MAX(largest / 127, FLT_MIN) : 1;
}

/* What the levels of rows are shifted by, for products of their bytes. */
static int32_t level_offset(const struct codec *codec)
{
    return codec->codes == ANNEX_CODES_Q4 ? 15 : 128;
}

struct squares {
    double coded, lost,
        all; /* of what the code and its fine part stand for, of the rest, of both */
};

static struct squares sum_squares(const float *target, const int8_t *code, const int8_t *fine,
                                  double unit, uint32_t n)
{
    double coded_lanes[QUERY_LANES] = {0}, lost_lanes[QUERY_LANES] = {0}, lanes[QUERY_LANES] = {0};
    struct squares sums = {0, 0, 0};
    for (uint32_t j = 0; j < n; j += QUERY_LANES) {
        for (uint32_t i = 0; i < QUERY_LANES; i++) { /* arrays are padded with zeros */
            double x = target[j + i];
            double coded = unit * (code[j + i] + fine[j + i] * (1.0 / CODEC_FINE_UNITS));
            coded_lanes[i] += coded * coded;
            lost_lanes[i] += (x - coded) * (x - coded);
            lanes[i] += x * x;
        }
    }
    for (uint32_t i = 0; i < QUERY_LANES; i++) {
        sums.coded += coded_lanes[i];
        sums.lost += lost_lanes[i];
        sums.all += lanes[i];
    }
    return sums;
}

static void set_bytes(struct query *query)
{
    const struct codec *codec = query->codec;
    const float *target = query->target;
    int8_t *restrict code = (int8_t *)query->code, *restrict fine = query->fine;
    codec_center(codec, query->vector, query->target);
    for (uint32_t j = codec->dimension; j % QUERY_LANES; j++) {
        query->target[j] = 0;
    }
    float unit = query_unit(query);
    float inverse = 1 / unit;
    int32_t sum = 0, fine_sum = 0;
    memset(code, 0, query_code_bytes(codec));
    memset(fine, 0, query_code_bytes(codec));
    for (uint32_t j = 0; j < codec->dimension; j++) {
        float level = target[j] * inverse;
        int32_t whole = codec_clamp(codec_round(level));
        int32_t part = codec_clamp(codec_round((level - (float)whole) * CODEC_FINE_UNITS));
        code[j] = (int8_t)whole;
        fine[j] = (int8_t)part;
        sum += whole;
        fine_sum += part;
    }
    struct squares squares = sum_squares(target, code, fine, unit, codec->dimension);
    query->scale = unit;
    query->offset = level_offset(codec) * sum;
    query->fine_offset = level_offset(codec) * fine_sum;
    query->residual =
        (float)sqrt(squares.lost) + codec_center_loss(codec) * (float)sqrt(squares.all);
    query->norm = (float)sqrt(squares.coded);
    bool ip = codec->metric == ANNEX_IP;
    query->a = ip ? 0 : (float)squares.coded;
    query->b = ip ? 0 : 1;
    query->c = ip ? -unit : -2 * unit;
    /* Sums stay below 2^24, where floats count without gaps, up to 256 dimensions. */
    query->exact = codec->lossless && unit == 1 && squares.lost == 0 && codec->dimension <= 256;
}

/* Scores are those of the kernels, with rows and target both divided by the scale. */
static void set_float(struct query *query)
{
    const struct codec *codec = query->codec;
    float scale = codec->fixed_scale;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        query->target[j] = query->vector[j] / scale;
    }
    query->norm = (float)sqrt(codec_squared_norm(query->vector, codec->dimension));
    query->c = codec->metric == ANNEX_L1 ? scale : scale * scale;
    query->c = codec->metric == ANNEX_IP ? -query->c : query->c;
    query->exact = codec->lossless;
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
    if (codec_is_float(codec)) {
        set_float(query);
    } else if (codec->metric == ANNEX_L1) {
        set_l1(query);
    } else if (!codec_is_bits(codec->metric)) {
        set_bytes(query);
    }
}

/* Levels of a row as the code of a query; returns their sum. */
static int32_t take_levels(const struct codec *codec, const uint8_t *row, uint8_t *restrict code)
{
    int32_t sum = 0;
    if (codec->codes == ANNEX_CODES_Q4) {
        memset(code, 0, query_code_bytes(codec));
        for (uint32_t j = 0; j < codec->dimension; j++) {
            int32_t level = codec_q4_level(row, j);
            code[j] = (uint8_t)level;
            sum += level;
        }
        return sum;
    }
    /* restrict, and two loops: compilers do 16 bytes at a time */
    uint32_t n = codec->code_bytes;
    memcpy(code, row, n);
    for (uint32_t j = 0; j < n; j++) {
        sum += code[j];
    }
    for (uint32_t j = 0; j < n; j++) {
        code[j] ^= 0x80; /* u8 around 128 -> s8 around 0 */
    }
    return sum - 128 * (int32_t)n;
}

static void set_float_row(struct query *query, const uint8_t *row, float bias)
{
    const struct codec *codec = query->codec;
    float scale = codec->fixed_scale;
    bool ip = codec->metric == ANNEX_IP;
    codec_widen(codec, row, query->target);
    query->a = ip ? 2 * codec->max_norm * codec->max_norm : 0;
    query->b = ip ? -2 * bias : 0;
    query->c = codec->metric == ANNEX_L1 ? scale : scale * scale;
    query->c = ip ? -2 * query->c : query->c;
}

void codec_query_set_row(struct query *query, const uint8_t *row)
{
    const struct codec *codec = query->codec;
    float terms[2];
    codec_terms(codec, row, terms);
    if (codec_is_float(codec)) {
        set_float_row(query, row, terms[1]);
        return;
    }
    query->offset = 0;
    query->c = 1;
    if (codec_is_bits(codec->metric) || codec->metric == ANNEX_L1) {
        memcpy(query->code, row, codec->code_bytes);
        query->a = codec->metric == ANNEX_L1 ? 0 : terms[1];
        query->b = 0;
        return;
    }
    bool ip = codec->metric == ANNEX_IP;
    query->offset = level_offset(codec) * take_levels(codec, row, query->code);
    query->a = ip ? 2 * codec->max_norm * codec->max_norm : terms[1];
    query->b = ip ? -2 * terms[1] : 1;
    query->c = -2 * terms[0];
}
