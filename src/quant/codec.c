/*
 * codec.c - what can be coded, and choosing a codec. Rows are in row.c, queries in query.c.
 */
#include "quant/codec.h"

#include <float.h>
#include <math.h>

#include "base/half.h"

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
    *survey = (struct codec_survey){
        .min = INFINITY, .max = -INFINITY, .integral = true, .f16 = true, .bf16 = true};
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
    for (uint32_t j = 0; survey->f16 && j < dimension; j++) {
        survey->f16 = f16_widen(f16_narrow(vector[j])) == vector[j];
    }
    for (uint32_t j = 0; survey->bf16 && j < dimension; j++) {
        survey->bf16 = bf16_widen(bf16_narrow(vector[j])) == vector[j];
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

bool codec_allows(annex_metric metric, annex_codes codes)
{
    if (codec_is_bits(metric) || codes == ANNEX_CODES_BITS) {
        return codec_is_bits(metric) && codes == ANNEX_CODES_BITS;
    }
    return codes != ANNEX_CODES_Q4 || metric != ANNEX_L1;
}

annex_status codec_check_codes(annex_metric metric, annex_codes codes, annex_error *error)
{
    if (codes == ANNEX_CODES_AUTO || codec_allows(metric, codes)) {
        return ANNEX_OK;
    }
    return error_set(error, ANNEX_INVALID, "the codes %s are not for the metric %s; use %s",
                     annex_codes_name(codes), annex_metric_name(metric),
                     codec_is_bits(metric) ? "bits" : "q8");
}

static uint32_t code_bytes_of(annex_codes codes, uint32_t dimension)
{
    switch (codes) {
    case ANNEX_CODES_BITS:
        return (uint32_t)round_up((dimension + 7) / 8, KERNEL_BITS_MULTIPLE);
    case ANNEX_CODES_Q4:
        return (uint32_t)round_up(dimension, 2 * KERNEL_Q4_MULTIPLE) / 2;
    case ANNEX_CODES_F16:
    case ANNEX_CODES_BF16:
        return (uint32_t)round_up(2 * dimension, 8);
    case ANNEX_CODES_F32:
        return (uint32_t)round_up(4 * dimension, 8);
    case ANNEX_CODES_AUTO:
    case ANNEX_CODES_Q8:
        break;
    }
    return (uint32_t)round_up(dimension, KERNEL_Q8_MULTIPLE);
}

void codec_restore(struct codec *codec, const struct codec_form *form)
{
    *codec = (struct codec){.kernels = kernel_table(),
                            .metric = form->metric,
                            .dimension = form->dimension,
                            .codes = form->codes,
                            .rotated = form->rotated,
                            .lossless = form->lossless,
                            .fixed_scale = form->fixed_scale,
                            .max_norm = form->max_norm,
                            .center = form->center,
                            .code_bytes = code_bytes_of(form->codes, form->dimension)};
    codec->row_bytes = codec->code_bytes + CODEC_TERM_BYTES;
    if (form->rotated) {
        codec->rotation = rotation_make(form->seed, form->dimension);
    }
}

/* Scale and center of bytes. */
static void choose_q8(struct codec_form *form, const struct codec_survey *survey, float *center)
{
    form->lossless = form->metric != ANNEX_COSINE && fits_a_byte(survey);
    float middle = 0;
    if (form->lossless) {
        form->fixed_scale = 1;
        middle = survey->min + 128;
    } else if (form->metric == ANNEX_L1) {
        bool spread = survey->n && survey->max > survey->min;
        form->fixed_scale = spread ? usable_scale((survey->max - survey->min) / 255) : 1;
        middle = survey->n ? survey->min + (survey->max - survey->min) / 2 : 0;
    }
    for (uint32_t j = 0; j < form->dimension; j++) {
        bool mean = form->fixed_scale == 0 && survey->n > 0;
        center[j] = mean ? (float)(survey->sum[j] / (double)survey->n) : middle;
    }
    if (form->metric == ANNEX_IP) {
        /* Its augmented metric needs products of uncentred rows. Bytes from 0 would need a center:
           signed bytes do without, others are coded with loss. */
        form->lossless = form->lossless && survey->min >= -128 && survey->max <= 127;
        form->fixed_scale = form->lossless ? 1 : 0;
        memset(center, 0, form->dimension * sizeof *center);
    }
}

/* Floats are no code but themselves: the vectors rounded, neither centred nor rotated. */
static void choose_float(struct codec_form *form, const struct codec_survey *survey, float *center)
{
    float largest = survey->n ? MAX(fabsf(survey->min), fabsf(survey->max)) : 0;
    form->fixed_scale = 1;
    while (form->codes == ANNEX_CODES_F16 && largest / form->fixed_scale > F16_LARGEST) {
        form->fixed_scale *= 2;
    }
    form->lossless = form->codes == ANNEX_CODES_F32 ||
                     (form->codes == ANNEX_CODES_F16 ? survey->f16 : survey->bf16);
    form->rotated = false;
    memset(center, 0, form->dimension * sizeof *center);
}

void codec_choose(struct codec *codec, const struct codec_form *wanted,
                  const struct codec_survey *survey, float *center)
{
    struct codec_form form = *wanted;
    form.lossless = false;
    form.fixed_scale = form.max_norm = 0;
    form.center = NULL;
    switch (form.codes) {
    case ANNEX_CODES_BITS:
        form.lossless = true;
        form.rotated = false;
        codec_restore(codec, &form);
        return;
    case ANNEX_CODES_F16:
    case ANNEX_CODES_BF16:
    case ANNEX_CODES_F32:
        choose_float(&form, survey, center);
        break;
    case ANNEX_CODES_Q4:
        choose_q8(&form, survey, center);
        if (form.fixed_scale >
            0) { /* bytes: their mean serves half bytes better than their middle */
            for (uint32_t j = 0; j < form.dimension && form.metric != ANNEX_IP; j++) {
                center[j] = (float)(survey->sum[j] / (double)survey->n);
            }
        }
        form.lossless = false;
        form.fixed_scale = 0;
        form.rotated = true;
        break;
    case ANNEX_CODES_AUTO:
    case ANNEX_CODES_Q8:
        form.codes = ANNEX_CODES_Q8;
        choose_q8(&form, survey, center);
        form.rotated = form.rotated && form.fixed_scale == 0;
        break;
    }
    form.center = center;
    /* Rounded up, so that no row's norm exceeds it. */
    form.max_norm = nextafterf((float)sqrt(survey->max_norm_squared), INFINITY);
    codec_restore(codec, &form);
}
