/*
 * query.c - preparing a query and scoring rows with it.
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

static void load_terms(const struct codec *codec, const uint8_t *row, float terms[2])
{
    memcpy(terms, row + codec->code_bytes, CODEC_TERM_BYTES);
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
    load_terms(codec, row, terms);
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

/* ---- scoring ---------------------------------------------------------------------------------*/

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
        load_terms(codec, row, terms);
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
