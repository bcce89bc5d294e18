/*
 * row.c - coding rows and reading them back.
 */
#include <float.h>
#include <math.h>

#include "base/half.h"
#include "quant/codec.h"

/* ---- before a code ---------------------------------------------------------------------------*/

void codec_center(const struct codec *codec, const float *vector, float *to)
{
    for (uint32_t j = 0; j < codec->dimension; j++) {
        to[j] = vector[j] - codec->center[j];
    }
    if (codec->rotated) {
        rotation_apply(&codec->rotation, to, to);
    }
}

void codec_uncenter(const struct codec *codec, float *vector)
{
    if (codec->rotated) {
        rotation_undo(&codec->rotation, vector, vector);
    }
    for (uint32_t j = 0; j < codec->dimension; j++) {
        vector[j] += codec->center[j];
    }
}

float codec_center_loss(const struct codec *codec)
{
    return codec->rotated ? rotation_loss(&codec->rotation) : 0;
}

/* ---- terms -----------------------------------------------------------------------------------*/

static void put_terms(const struct codec *codec, uint8_t *row, float scale, float bias)
{
    memcpy(row + codec->code_bytes, &scale, sizeof scale);
    memcpy(row + codec->code_bytes + sizeof scale, &bias, sizeof bias);
}

/* What a coded row contributes to scores besides the product: see query.c. */
static float row_bias(const struct codec *codec, double norm_squared)
{
    if (codec->metric == ANNEX_IP) {
        double max_squared = (double)codec->max_norm * codec->max_norm;
        return (float)sqrt(MAX(0, max_squared - norm_squared));
    }
    return codec->metric == ANNEX_L1 ? 0 : (float)norm_squared;
}

static float rounded_up(double lost)
{
    return lost > 0 ? nextafterf((float)lost, INFINITY) : 0;
}

/* ---- bits ------------------------------------------------------------------------------------*/

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

/* ---- q8 --------------------------------------------------------------------------------------*/

static float q8_scale(const struct codec *codec, const float *work)
{
    if (codec->fixed_scale > 0) {
        return codec->fixed_scale;
    }
    float largest = 0;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        largest = MAX(largest, fabsf(work[j]));
    }
    return largest > 0 ? MAX(largest / 127, FLT_MIN) : 1; /* it is divided by */
}

/* `work` is the vector centred; returns what the code loses. */
static float encode_q8(const struct codec *codec, const float *x, const float *work, uint8_t *row)
{
    float scale = q8_scale(codec, work);
    float inverse = 1 / scale;
    int64_t code_norm_squared = 0;
    double lost_squared = 0, lost_sum = 0, squares = 0;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        int32_t code = codec_clamp(codec_round(work[j] * inverse));
        row[j] = (uint8_t)(code + 128);
        code_norm_squared += code * code;
        double lost = codec->rotated
                          ? (double)work[j] - (double)scale * code
                          : (double)x[j] - ((double)codec->center[j] + (double)scale * code);
        lost_squared += lost * lost;
        lost_sum += fabs(lost);
        squares += (double)work[j] * work[j];
    }
    memset(row + codec->dimension, 128, codec->code_bytes - codec->dimension);
    double norm_squared = (double)scale * scale * (double)code_norm_squared;
    put_terms(codec, row, scale, row_bias(codec, norm_squared));
    return rounded_up(codec->metric == ANNEX_L1
                          ? lost_sum
                          : sqrt(lost_squared) + (double)codec_center_loss(codec) * sqrt(squares));
}

/* ---- q4 --------------------------------------------------------------------------------------*/

/* The odd number of half steps, -15 to 15, nearest to x / step. */
static int32_t q4_level(float x, float inverse_step)
{
    float below = codec_round(x * inverse_step - 0.5f);
    return 2 * (int32_t)MAX(MIN(below, 7.0f), -8.0f) + 1;
}

/*
 * The step of a row: from the one that is best for a normal distribution, the mean of what levels
 * ask for, until it settles; like k-means, each turn lessens the error.
 */
static float q4_step(const float *work, uint32_t n)
{
    enum { TURNS = 4, LANES = 8 };
    double squares = codec_squared_norm(work, n);
    float largest = 0;
    for (uint32_t j = 0; j < n; j++) {
        largest = MAX(largest, fabsf(work[j]));
    }
    if (largest == 0) {
        return 0;
    }
    float step = MIN(largest / 8, 0.36f * (float)sqrt(squares / n));
    for (int turn = 0; turn < TURNS; turn++) {
        float inverse = 1 / MAX(step, FLT_MIN);
        double products[LANES] = {0};
        int32_t levels_squared = 0;
        for (uint32_t j = 0; j < n; j++) {
            int32_t level = q4_level(work[j], inverse);
            products[j % LANES] += (double)work[j] * level;
            levels_squared += level * level;
        }
        double product = ((products[0] + products[4]) + (products[2] + products[6])) +
                         ((products[1] + products[5]) + (products[3] + products[7]));
        step = (float)(2 * product / levels_squared);
    }
    return MAX(step, FLT_MIN);
}

static float encode_q4(const struct codec *codec, const float *work, uint8_t *row)
{
    float step = q4_step(work, codec->dimension), scale = step / 2;
    float inverse = step > 0 ? 1 / step : 0;
    int64_t levels_squared = 0;
    double lost_squared = 0, squares = 0;
    memset(row, 0, codec->code_bytes);
    for (uint32_t j = 0; j < codec->dimension; j++) {
        int32_t level = q4_level(work[j], inverse);
        uint8_t half = (uint8_t)((level + 15) / 2);
        row[j / 128 * 64 + j % 64] |= (uint8_t)(j % 128 < 64 ? half : half << 4);
        levels_squared += level * level;
        double lost = (double)work[j] - (double)scale * level;
        lost_squared += lost * lost;
        squares += (double)work[j] * work[j];
    }
    put_terms(codec, row, scale, row_bias(codec, (double)scale * scale * (double)levels_squared));
    return rounded_up(sqrt(lost_squared) + (double)codec_center_loss(codec) * sqrt(squares));
}

/* ---- floats ----------------------------------------------------------------------------------*/

void codec_widen(const struct codec *codec, const uint8_t *row, float *to)
{
    const uint16_t *halves = (const uint16_t *)(const void *)row;
    if (codec->codes == ANNEX_CODES_F32) {
        memcpy(to, row, codec->dimension * sizeof *to);
        return;
    }
    for (uint32_t j = 0; j < codec->dimension; j++) {
        to[j] = codec->codes == ANNEX_CODES_F16 ? f16_widen(halves[j]) : bf16_widen(halves[j]);
    }
}

/* Within the range of f16, also for rows that come after the scale was chosen. */
static uint16_t narrow(const struct codec *codec, float x)
{
    if (codec->codes == ANNEX_CODES_BF16) {
        return bf16_narrow(x);
    }
    return f16_narrow(MIN(MAX(x / codec->fixed_scale, -F16_LARGEST), F16_LARGEST));
}

static float encode_float(const struct codec *codec, const float *x, float *work, uint8_t *row)
{
    uint16_t *halves = (uint16_t *)(void *)row;
    memset(row, 0, codec->code_bytes);
    if (codec->codes == ANNEX_CODES_F32) {
        memcpy(row, x, codec->dimension * sizeof *x);
    } else {
        for (uint32_t j = 0; j < codec->dimension; j++) {
            halves[j] = narrow(codec, x[j]);
        }
    }
    codec_widen(codec, row, work);
    double lost_squared = 0, lost_sum = 0, norm_squared = 0;
    for (uint32_t j = 0; j < codec->dimension; j++) {
        double coded = (double)work[j] * codec->fixed_scale;
        double lost = x[j] - coded;
        norm_squared += coded * coded;
        lost_squared += lost * lost;
        lost_sum += fabs(lost);
    }
    put_terms(codec, row, codec->fixed_scale, row_bias(codec, norm_squared));
    return rounded_up(codec->metric == ANNEX_L1 ? lost_sum : sqrt(lost_squared));
}

/* ---- all -------------------------------------------------------------------------------------*/

void codec_encode(const struct codec *codec, const void *vector, uint8_t *row, float *work,
                  float *error_norm)
{
    *error_norm = 0;
    switch (codec->codes) {
    case ANNEX_CODES_BITS:
        encode_bits(codec, vector, row);
        break;
    case ANNEX_CODES_Q4:
        codec_center(codec, vector, work);
        *error_norm = encode_q4(codec, work, row);
        break;
    case ANNEX_CODES_F16:
    case ANNEX_CODES_BF16:
    case ANNEX_CODES_F32:
        *error_norm = encode_float(codec, vector, work, row);
        break;
    case ANNEX_CODES_AUTO:
    case ANNEX_CODES_Q8:
        codec_center(codec, vector, work);
        *error_norm = encode_q8(codec, vector, work, row);
        break;
    }
}

void codec_decode(const struct codec *codec, const uint8_t *row, void *vector)
{
    float *x = vector;
    float scale;
    memcpy(&scale, row + codec->code_bytes, sizeof scale);
    if (codec->codes == ANNEX_CODES_BITS) {
        memcpy(vector, row, codec_vector_bytes(codec));
        return;
    }
    if (codec_is_float(codec)) {
        codec_widen(codec, row, x);
        for (uint32_t j = 0; j < codec->dimension; j++) {
            x[j] *= codec->fixed_scale;
        }
        return;
    }
    for (uint32_t j = 0; j < codec->dimension; j++) {
        int32_t level = codec->codes == ANNEX_CODES_Q4 ? codec_q4_level(row, j) : row[j] - 128;
        x[j] = scale * (float)level;
    }
    codec_uncenter(codec, x);
}

bool codec_holds(const struct codec *codec, const float *vector)
{
    for (uint32_t j = 0; j < codec->dimension; j++) {
        float x = vector[j];
        bool held = true;
        if (codec->codes == ANNEX_CODES_F16) {
            held = f16_widen(f16_narrow(x)) == x;
        } else if (codec->codes == ANNEX_CODES_BF16) {
            held = bf16_widen(bf16_narrow(x)) == x;
        } else if (codec->codes == ANNEX_CODES_Q8) {
            float centred = x - codec->center[j];
            held = centred == codec_round(centred) && centred >= -128 && centred <= 127;
        }
        if (!held) {
            return false;
        }
    }
    return true;
}

/* bias^2 = M^2 - |x|^2 of a row becomes larger by what M^2 does. */
void codec_raise_max_norm(struct codec *codec, float norm, uint8_t *rows, size_t n)
{
    float raised = MAX(norm, 1.1f * codec->max_norm);
    double more = (double)raised * raised - (double)codec->max_norm * codec->max_norm;
    for (size_t i = 0; i < n; i++) {
        uint8_t *bias_bytes = rows + i * codec->row_bytes + codec->code_bytes + sizeof(float);
        float bias;
        memcpy(&bias, bias_bytes, sizeof bias);
        bias = (float)sqrt((double)bias * bias + more);
        memcpy(bias_bytes, &bias, sizeof bias);
    }
    codec->max_norm = raised;
}
