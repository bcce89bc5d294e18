/*
 * codec.c - choosing a codec, coding rows and reading them back. Queries are in query.c.
 */
#include "quant/codec.h"

#include <float.h>
#include <math.h>

bool codec_is_bits(annex_metric metric)
{
    return metric == ANNEX_HAMMING || metric == ANNEX_JACCARD;
}

size_t codec_vector_bytes(const struct codec *codec)
{
    return annex_vector_bytes(codec->metric, codec->dimension);
}

/* ---- what can be coded ------------------------------------------------------------------------*/

enum { NORM_LANES = 8 };

/*
 * Element i goes to lane i % NORM_LANES, which compilers vectorise for any processor; a product of
 * two floats is exact in a double.
 */
double codec_squared_norm(const float *vector, size_t n)
{
    double lanes[NORM_LANES] = {0};
    size_t whole = n - n % NORM_LANES;
    for (size_t i = 0; i < whole; i += NORM_LANES) {
        for (size_t j = 0; j < NORM_LANES; j++) {
            lanes[j] += (double)vector[i + j] * vector[i + j];
        }
    }
    for (size_t i = whole; i < n; i++) {
        lanes[i % NORM_LANES] += (double)vector[i] * vector[i];
    }
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

bool codec_accepts(annex_metric metric, const float *vector, size_t n, bool *zero)
{
    /* Squares of floats do not overflow a double: NaN and infinity show in the sum. */
    double norm_squared = codec_squared_norm(vector, n);
    *zero = norm_squared == 0;
    return metric == ANNEX_COSINE ? isfinite(norm_squared) != 0
                                  : norm_squared <= CODEC_MAX_NORM * CODEC_MAX_NORM;
}

annex_status codec_refuse(const float *vector, size_t n, const char *what, annex_error *error)
{
    for (size_t j = 0; j < n; j++) {
        if (!isfinite(vector[j])) {
            return error_set(error, ANNEX_INVALID,
                             "element %zu of %s is %s; vectors must be finite numbers", j, what,
                             isnan(vector[j]) ? "NaN" : "infinite");
        }
    }
    return error_set(error, ANNEX_INVALID,
                     "%s is too long: its squared distances overflow; scale vectors to a length "
                     "below %g",
                     what, CODEC_MAX_NORM);
}

/* ---- survey ----------------------------------------------------------------------------------*/

annex_status codec_survey_new(const annex_env *env, uint32_t dimension, struct codec_survey *survey,
                              annex_error *error)
{
    *survey = (struct codec_survey){.min = INFINITY, .max = -INFINITY, .integral = true};
    return memory_new(env, dimension, sizeof *survey->sum, &survey->sum, error);
}

void codec_survey_free(const annex_env *env, uint32_t dimension, struct codec_survey *survey)
{
    memory_free(env, survey->sum, dimension, sizeof *survey->sum);
    survey->sum = NULL;
}

void codec_survey_add(struct codec_survey *survey, uint32_t dimension, const float *vector)
{
    double norm_squared = 0;
    for (uint32_t j = 0; j < dimension; j++) {
        float x = vector[j];
        survey->sum[j] += x;
        norm_squared += (double)x * x;
        survey->min = MIN(survey->min, x);
        survey->max = MAX(survey->max, x);
    }
    for (uint32_t j = 0; survey->integral && j < dimension; j++) {
        survey->integral = vector[j] == nearbyintf(vector[j]);
    }
    survey->max_norm_squared = MAX(survey->max_norm_squared, norm_squared);
    survey->n++;
}

/* ---- choice ----------------------------------------------------------------------------------*/

/* Scales are divided by: the inverse of a smaller one is infinite. */
static float usable_scale(float scale)
{
    return MAX(scale, FLT_MIN);
}

/* Whole numbers that span at most a byte are their own codes. */
static bool fits_a_byte(const struct codec_survey *survey)
{
    return survey->n > 0 && survey->integral && survey->max - survey->min <= 255 &&
           fabsf(survey->min) < 1e6f;
}

static void set_layout(struct codec *codec, annex_metric metric, uint32_t dimension)
{
    bool bits = codec_is_bits(metric);
    *codec = (struct codec){.kernels = kernel_table(), .metric = metric, .dimension = dimension};
    codec->code_bytes = bits ? (uint32_t)round_up((dimension + 7) / 8, KERNEL_BITS_MULTIPLE)
                             : (uint32_t)round_up(dimension, KERNEL_Q8_MULTIPLE);
    codec->row_bytes = codec->code_bytes + CODEC_TERM_BYTES;
}

void codec_choose(struct codec *codec, annex_metric metric, uint32_t dimension,
                  const struct codec_survey *survey, float *center)
{
    set_layout(codec, metric, dimension);
    if (codec_is_bits(metric)) {
        codec->lossless = true;
        return;
    }
    codec->center = center;
    /* Rounded up, so that no row's norm exceeds it. */
    codec->max_norm = nextafterf((float)sqrt(survey->max_norm_squared), INFINITY);
    codec->lossless = metric != ANNEX_COSINE && fits_a_byte(survey);
    bool uniform = codec->lossless || metric == ANNEX_L1;
    if (codec->lossless) {
        codec->fixed_scale = 1;
    } else if (metric == ANNEX_L1) {
        codec->fixed_scale = survey->n && survey->max > survey->min
                                 ? usable_scale((survey->max - survey->min) / 255)
                                 : 1;
    }
    for (uint32_t j = 0; j < dimension; j++) {
        if (survey->n == 0 || (metric == ANNEX_IP && !codec->lossless)) {
            center[j] = 0; /* the augmented metric of ip needs products of uncentred rows */
        } else if (uniform) {
            center[j] =
                codec->lossless ? survey->min + 128 : survey->min + (survey->max - survey->min) / 2;
        } else {
            center[j] = (float)(survey->sum[j] / (double)survey->n);
        }
    }
    if (metric == ANNEX_IP && codec->lossless) {
        /* Bytes from 0 would need a center: signed bytes do without, others are coded with loss. */
        codec->lossless = survey->min >= -128 && survey->max <= 127;
        codec->fixed_scale = codec->lossless ? 1 : 0;
        memset(center, 0, dimension * sizeof *center);
    }
}

void codec_restore(struct codec *codec, annex_metric metric, uint32_t dimension, bool lossless,
                   float fixed_scale, float max_norm, const float *center)
{
    set_layout(codec, metric, dimension);
    codec->lossless = lossless;
    codec->fixed_scale = fixed_scale;
    codec->max_norm = max_norm;
    codec->center = center;
}

/* ---- rows ------------------------------------------------------------------------------------*/

bool codec_normalize(const float *from, float *to, size_t n)
{
    double norm_squared = codec_squared_norm(from, n);
    if (norm_squared == 0) {
        return false;
    }
    double inverse = 1 / sqrt(norm_squared);
    size_t whole = n - n % NORM_LANES;
    for (size_t i = 0; i < whole; i += NORM_LANES) {
        float block[NORM_LANES]; /* `to` may be `from`: all are read before one is written */
        for (size_t j = 0; j < NORM_LANES; j++) {
            block[j] = (float)(from[i + j] * inverse);
        }
        memcpy(to + i, block, sizeof block);
    }
    for (size_t i = whole; i < n; i++) {
        to[i] = (float)(from[i] * inverse);
    }
    return true;
}

static void put_terms(const struct codec *codec, uint8_t *row, float scale, float bias)
{
    memcpy(row + codec->code_bytes, &scale, sizeof scale);
    memcpy(row + codec->code_bytes + sizeof scale, &bias, sizeof bias);
}

static void encode_bits(const struct codec *codec, const uint8_t *bits, uint8_t *row)
{
    size_t bytes = codec_vector_bytes(codec);
    memset(row, 0, codec->code_bytes);
    memcpy(row, bits, bytes);
    if (codec->dimension % 8) {
        row[bytes - 1] &= (uint8_t)((1u << codec->dimension % 8) - 1);
    }
    uint32_t count = 0;
    for (size_t j = 0; j < bytes; j++) {
        count += (uint32_t)__builtin_popcount(row[j]);
    }
    put_terms(codec, row, 1, (float)count);
}

static float row_scale(const struct codec *codec, const float *vector)
{
    if (codec->fixed_scale > 0) {
        return codec->fixed_scale;
    }
    float largest = 0;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        largest = MAX(largest, fabsf(vector[j] - codec->center[j]));
    }
    return largest > 0 ? usable_scale(largest / 127) : 1;
}

/* What a coded row contributes to scores besides the product: see query.c. */
static float row_bias(const struct codec *codec, float scale, int64_t code_norm_squared)
{
    double norm_squared = (double)scale * scale * (double)code_norm_squared;
    if (codec->metric == ANNEX_IP) {
        double max_squared = (double)codec->max_norm * codec->max_norm;
        return (float)sqrt(MAX(0, max_squared - norm_squared));
    }
    return codec->metric == ANNEX_L1 ? 0 : (float)norm_squared;
}

void codec_encode(const struct codec *codec, const void *vector, uint8_t *row, float *error_norm)
{
    *error_norm = 0;
    if (codec_is_bits(codec->metric)) {
        encode_bits(codec, vector, row);
        return;
    }
    const float *x = vector;
    float scale = row_scale(codec, x);
    float inverse = 1 / scale;
    int64_t code_norm_squared = 0;
    double lost_squared = 0, lost_sum = 0;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        float centred = x[j] - codec->center[j];
        float level = codec_round(centred * inverse);
        int32_t code = codec_clamp(level);
        row[j] = (uint8_t)(code + 128);
        code_norm_squared += code * code;
        double lost = (double)x[j] - ((double)codec->center[j] + (double)scale * code);
        lost_squared += lost * lost;
        lost_sum += fabs(lost);
    }
    memset(row + codec->dimension, 128, codec->code_bytes - codec->dimension);
    put_terms(codec, row, scale, row_bias(codec, scale, code_norm_squared));
    double lost = codec->metric == ANNEX_L1 ? lost_sum : sqrt(lost_squared);
    *error_norm = lost > 0 ? nextafterf((float)lost, INFINITY) : 0;
}

void codec_decode(const struct codec *codec, const uint8_t *row, void *vector)
{
    if (codec_is_bits(codec->metric)) {
        memcpy(vector, row, codec_vector_bytes(codec));
        return;
    }
    float *x = vector;
    float scale;
    memcpy(&scale, row + codec->code_bytes, sizeof scale);
    for (uint32_t j = 0; j < codec->dimension; j++) {
        x[j] = codec->center[j] + scale * (float)(row[j] - 128);
    }
}
