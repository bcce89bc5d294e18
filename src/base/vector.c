/*
 * vector.c - the names of metrics, element formats and codes, the size of a vector, and widening to
 * f32.
 *
 * Invariant: widening is exact for every format but F64, which is rounded to nearest; NaN and
 * infinities pass through. Whoever builds or searches rejects them, with the row at hand.
 * Text is in vector_text.c, distances are in the kernel room.
 */
#include "base/base.h"
#include "base/half.h"

struct name {
    const char *name;
    int value;
};

/* The first name of a value is the one that is written. */
static const struct name metric_names[] = {
    {"l2", ANNEX_L2},        {"ip", ANNEX_IP},           {"cosine", ANNEX_COSINE},
    {"l1", ANNEX_L1},        {"hamming", ANNEX_HAMMING}, {"jaccard", ANNEX_JACCARD},
    {"euclidean", ANNEX_L2}, {"dot", ANNEX_IP},          {"angular", ANNEX_COSINE},
    {"manhattan", ANNEX_L1},
};

static const struct name format_names[] = {
    {"auto", ANNEX_FORMAT_AUTO}, {"f32", ANNEX_F32},   {"f16", ANNEX_F16},
    {"bf16", ANNEX_BF16},        {"i8", ANNEX_I8},     {"u8", ANNEX_U8},
    {"bits", ANNEX_BITS},        {"json", ANNEX_JSON}, {"f64", ANNEX_F64},
};

static const struct name codes_names[] = {
    {"auto", ANNEX_CODES_AUTO}, {"q8", ANNEX_CODES_Q8},   {"bits", ANNEX_CODES_BITS},
    {"q4", ANNEX_CODES_Q4},     {"f16", ANNEX_CODES_F16}, {"bf16", ANNEX_CODES_BF16},
    {"f32", ANNEX_CODES_F32},
};

static const struct name raw_names[] = {
    {"auto", ANNEX_RAW_AUTO}, {"keep", ANNEX_RAW_KEEP}, {"none", ANNEX_RAW_NONE},
    {"f16", ANNEX_RAW_F16},   {"bf16", ANNEX_RAW_BF16},
};

static const char *name_of(const struct name *names, size_t n, int value)
{
    for (size_t i = 0; i < n; i++) {
        if (names[i].value == value) {
            return names[i].name;
        }
    }
    return NULL;
}

static bool name_find(const struct name *names, size_t n, const char *name, int *value)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i].name, name) == 0) {
            *value = names[i].value;
            return true;
        }
    }
    return false;
}

const char *annex_metric_name(annex_metric metric)
{
    return name_of(metric_names, ARRAY_LENGTH(metric_names), (int)metric);
}

annex_status annex_metric_parse(const char *name, annex_metric *metric, annex_error *error)
{
    int value = 0;
    bool found = name_find(metric_names, ARRAY_LENGTH(metric_names), name, &value);

    *metric = (annex_metric)value;
    if (!found) {
        return error_set(error, ANNEX_INVALID,
                         "there is no metric \"%.40s\"; it is one of l2, ip, cosine, l1, hamming "
                         "and jaccard",
                         name);
    }
    return ANNEX_OK;
}

const char *annex_format_name(annex_format format)
{
    return name_of(format_names, ARRAY_LENGTH(format_names), (int)format);
}

annex_status annex_format_parse(const char *name, annex_format *format, annex_error *error)
{
    int value = 0;
    bool found = name_find(format_names, ARRAY_LENGTH(format_names), name, &value);

    *format = (annex_format)value;
    if (!found) {
        return error_set(error, ANNEX_INVALID,
                         "there is no vector format \"%.40s\"; it is one of auto, f32, f16, bf16, "
                         "f64, i8, u8, bits and json",
                         name);
    }
    return ANNEX_OK;
}

const char *annex_codes_name(annex_codes codes)
{
    return name_of(codes_names, ARRAY_LENGTH(codes_names), (int)codes);
}

annex_status annex_codes_parse(const char *name, annex_codes *codes, annex_error *error)
{
    int value = 0;
    bool found = name_find(codes_names, ARRAY_LENGTH(codes_names), name, &value);

    *codes = (annex_codes)value;
    if (!found) {
        return error_set(
            error, ANNEX_INVALID,
            "there are no codes \"%.40s\"; they are one of auto, q8, q4, f16, bf16 and "
            "f32",
            name);
    }
    return ANNEX_OK;
}

const char *annex_raw_name(annex_raw raw)
{
    return name_of(raw_names, ARRAY_LENGTH(raw_names), (int)raw);
}

annex_status annex_raw_parse(const char *name, annex_raw *raw, annex_error *error)
{
    int value = 0;
    bool found = name_find(raw_names, ARRAY_LENGTH(raw_names), name, &value);

    *raw = (annex_raw)value;
    if (!found) {
        return error_set(error, ANNEX_INVALID,
                         "vectors cannot be stored as \"%.40s\"; it is one of auto, keep, none, "
                         "f16 and bf16",
                         name);
    }
    return ANNEX_OK;
}

size_t annex_vector_bytes(annex_metric metric, size_t dimension)
{
    bool bits = metric == ANNEX_HAMMING || metric == ANNEX_JACCARD;

    return bits ? dimension / 8 + (dimension % 8 != 0) : dimension * sizeof(float);
}

/* ---- Widening ---------------------------------------------------------------------------------*/

static void widen_f16(const char *restrict from, size_t n, float *restrict to)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;

        memcpy(&half, from + 2 * i, sizeof half);
        to[i] = f16_widen(half);
    }
}

static void widen_bf16(const char *restrict from, size_t n, float *restrict to)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t upper;

        memcpy(&upper, from + 2 * i, sizeof upper);
        to[i] = bf16_widen(upper);
    }
}

static void widen_f64(const char *restrict from, size_t n, float *restrict to)
{
    for (size_t i = 0; i < n; i++) {
        double value;

        memcpy(&value, from + 8 * i, sizeof value);
        to[i] = (float)value;
    }
}

static void widen_i8(const signed char *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)from[i];
    }
}

static void widen_u8(const unsigned char *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)from[i];
    }
}

annex_status annex_vector_widen(annex_format format, const void *from, size_t n, float *to,
                                annex_error *error)
{
    const char *name = annex_format_name(format);

    switch (format) {
    case ANNEX_F32:
        memcpy(to, from, n * sizeof(float));
        return ANNEX_OK;
    case ANNEX_F16:
        widen_f16(from, n, to);
        return ANNEX_OK;
    case ANNEX_BF16:
        widen_bf16(from, n, to);
        return ANNEX_OK;
    case ANNEX_I8:
        widen_i8(from, n, to);
        return ANNEX_OK;
    case ANNEX_U8:
        widen_u8(from, n, to);
        return ANNEX_OK;
    case ANNEX_F64:
        widen_f64(from, n, to);
        return ANNEX_OK;
    case ANNEX_FORMAT_AUTO:
    case ANNEX_BITS:
    case ANNEX_JSON:
        break;
    }
    return error_set(error, ANNEX_INVALID,
                     "elements of format %s cannot be widened to f32; name f32, f16, bf16, f64, i8 "
                     "or u8",
                     name == NULL ? "unknown" : name);
}
