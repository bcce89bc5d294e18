/*
 * column.c - values of a vector column, and queries, as vectors: f32, or packed bits under the bit
 * metrics. Also guesses format and dimension of a column from its first values.
 *
 * Invariant: a vector that is VECTOR_GOOD has the dimension of the index and finite elements, and
 * is not zero under cosine.
 */
#include "catalog/catalog.h"

#include <math.h>

annex_status vector_reader_open(const annex_env *env, const struct definition *definition,
                                struct vector_reader *reader, annex_error *error)
{
    *reader = (struct vector_reader){
        .env = env,
        .metric = definition->metric,
        .format = definition->format,
        .dimension = definition->dimension,
        .bytes = annex_vector_bytes(definition->metric, definition->dimension),
    };
    return codec_is_bits(reader->metric)
               ? memory_new_raw(env, reader->dimension, sizeof(float), &reader->scratch, error)
               : ANNEX_OK;
}

void vector_reader_close(struct vector_reader *reader)
{
    if (reader->env != NULL) {
        memory_free(reader->env, reader->scratch, reader->dimension, sizeof(float));
    }
    reader->scratch = NULL;
}

/* Bytes of `n` elements in a blob; 0 for JSON. */
static size_t format_bytes(annex_format format, size_t n)
{
    switch (format) {
    case ANNEX_F32:
        return 4 * n;
    case ANNEX_F16:
    case ANNEX_BF16:
        return 2 * n;
    case ANNEX_I8:
    case ANNEX_U8:
        return n;
    case ANNEX_BITS:
        return (n + 7) / 8;
    default:
        return 0;
    }
}

/* ---- reading ---------------------------------------------------------------------------------*/

static enum vector_state vector_read_json(const struct vector_reader *reader,
                                          const annex_value *value, void *vector, annex_error *why)
{
    bool bits = codec_is_bits(reader->metric);
    float *elements = bits ? reader->scratch : vector;
    size_t n = 0;
    annex_status status =
        annex_vector_parse(value->data, value->bytes, elements, reader->dimension, &n, why);
    if (status != ANNEX_OK && status != ANNEX_FULL) {
        return VECTOR_BAD;
    }
    if (n != reader->dimension) {
        error_set(why, ANNEX_INVALID, "it has %zu dimensions, and the index has %u", n,
                  reader->dimension);
        return VECTOR_BAD;
    }
    if (bits) {
        memset(vector, 0, reader->bytes);
        for (size_t i = 0; i < n; i++) {
            if (elements[i] != 0 && elements[i] != 1) {
                error_set(why, ANNEX_INVALID, "element %zu is %g, and bits are 0 or 1", i,
                          (double)elements[i]);
                return VECTOR_BAD;
            }
            ((uint8_t *)vector)[i / 8] |= (uint8_t)((int)elements[i] << (i % 8));
        }
    }
    return VECTOR_GOOD;
}

static enum vector_state vector_read_blob(const struct vector_reader *reader, annex_format format,
                                          const annex_value *value, void *vector, annex_error *why)
{
    size_t expected = format_bytes(format, reader->dimension);
    if (value->bytes != expected) {
        error_set(why, ANNEX_INVALID, "it has %zu bytes, and %u dimensions as %s take %zu",
                  value->bytes, reader->dimension, annex_format_name(format), expected);
        return VECTOR_BAD;
    }
    if (format == ANNEX_BITS) {
        memcpy(vector, value->data, expected);
        if (reader->dimension % 8 != 0) { /* what lies behind the last element does not count */
            ((uint8_t *)vector)[expected - 1] &= (uint8_t)((1u << reader->dimension % 8) - 1);
        }
        return VECTOR_GOOD;
    }
    annex_status status = annex_vector_widen(format, value->data, reader->dimension, vector, why);
    return status == ANNEX_OK ? VECTOR_GOOD : VECTOR_BAD;
}

/* NaN and infinity make a vector bad; under cosine a zero vector has no direction. */
static enum vector_state vector_validate(const struct vector_reader *reader, const float *vector,
                                         annex_error *why)
{
    bool zero;
    if (codec_accepts(reader->metric, vector, reader->dimension, &zero)) {
        return zero && reader->metric == ANNEX_COSINE ? VECTOR_NONE : VECTOR_GOOD;
    }
    for (size_t i = 0; i < reader->dimension; i++) {
        if (!isfinite(vector[i])) {
            error_set(why, ANNEX_INVALID, "element %zu is %s", i,
                      isnan(vector[i]) ? "NaN" : "infinite");
            return VECTOR_BAD;
        }
    }
    error_set(why, ANNEX_INVALID, "it is longer than %g, and its squared distances overflow",
              CODEC_MAX_NORM);
    return VECTOR_BAD;
}

static enum vector_state vector_read_as(const struct vector_reader *reader, annex_format format,
                                        const annex_value *value, void *vector, annex_error *why)
{
    enum vector_state state = VECTOR_BAD;
    if (value->type == ANNEX_NULL) {
        return VECTOR_NONE;
    }
    if (format == ANNEX_JSON ? value->type != ANNEX_TEXT : value->type != ANNEX_BLOB) {
        static const char *const types[] = {"NULL", "an integer", "a real", "text", "a blob"};
        error_set(why, ANNEX_INVALID, "it is %s, and the format %s needs %s", types[value->type],
                  annex_format_name(format), format == ANNEX_JSON ? "text" : "a blob");
        return VECTOR_BAD;
    }
    state = format == ANNEX_JSON ? vector_read_json(reader, value, vector, why)
                                 : vector_read_blob(reader, format, value, vector, why);
    return state == VECTOR_GOOD && !codec_is_bits(reader->metric)
               ? vector_validate(reader, vector, why)
               : state;
}

enum vector_state vector_read(const struct vector_reader *reader, const annex_value *value,
                              void *vector, annex_error *why)
{
    return vector_read_as(reader, reader->format, value, vector, why);
}

annex_status vector_read_query(const struct vector_reader *reader, const annex_value *value,
                               void *vector, annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    annex_format format = reader->format;
    if (value->type == ANNEX_TEXT) {
        format = ANNEX_JSON;
    } else if (value->type == ANNEX_BLOB && !codec_is_bits(reader->metric) &&
               value->bytes != format_bytes(format, reader->dimension)) {
        format = ANNEX_F32;
    } else if (value->type == ANNEX_BLOB && codec_is_bits(reader->metric)) {
        format = ANNEX_BITS;
    }
    if (value->type != ANNEX_TEXT && value->type != ANNEX_BLOB) {
        return error_set(error, ANNEX_INVALID,
                         "the query must be a vector: a blob, or JSON such as [0.1, 0.2]");
    }
    switch (vector_read_as(reader, format, value, vector, &why)) {
    case VECTOR_GOOD:
        return ANNEX_OK;
    case VECTOR_NONE:
        return error_set(error, ANNEX_INVALID,
                         "the query is a zero vector, which has no direction under cosine");
    default:
        return error_set(error, ANNEX_INVALID, "the query does not fit the index: %s", why.message);
    }
}

/* ---- guessing --------------------------------------------------------------------------------*/

/* What the elements of some blobs are like when they are read as one format. */
struct impression {
    uint64_t seen, zero, likely; /* likely: a size that elements of vectors have */
    double mean[2];              /* of log2 of the size, at even and at odd places */
    bool finite;
};

static struct impression impression_take(annex_format format, const annex_value *samples,
                                         size_t n_samples, double least, double most)
{
    struct impression seen = {.finite = true};
    size_t width = format_bytes(format, 1);
    double sum[2] = {0, 0};
    uint64_t n[2] = {0, 0};
    for (size_t i = 0; i < n_samples; i++) {
        const char *data = samples[i].data;
        for (size_t j = 0; j < samples[i].bytes / width; j++) {
            float element = 0;
            (void)annex_vector_widen(format, data + j * width, 1, &element, NULL);
            double size = fabs((double)element);
            seen.finite = seen.finite && isfinite(element);
            seen.seen++;
            seen.zero += size == 0;
            seen.likely += size >= least && size <= most;
            if (size > 0 && isfinite(element)) {
                sum[j % 2] += log2(size);
                n[j % 2]++;
            }
        }
    }
    seen.mean[0] = n[0] > 0 ? sum[0] / (double)n[0] : 0;
    seen.mean[1] = n[1] > 0 ? sum[1] / (double)n[1] : 0;
    return seen;
}

/*
 * Two halves look like one f32 more often than one would think. The lower half of an f32 is nearly
 * random, so read as f16 it differs in size from the upper one, and is often not finite.
 */
static bool looks_like_f16(const annex_value *samples, size_t n)
{
    struct impression seen = impression_take(ANNEX_F16, samples, n, 1e-5, 1e3);
    return samples[0].bytes % 2 == 0 && seen.finite && seen.seen >= 64 &&
           10 * seen.zero < 4 * seen.seen && 20 * (seen.likely + seen.zero) >= 19 * seen.seen &&
           fabs(seen.mean[0] - seen.mean[1]) < 0.75;
}

static bool looks_like_f32(const annex_value *samples, size_t n)
{
    struct impression seen = impression_take(ANNEX_F32, samples, n, 1e-9, 1e9);
    return samples[0].bytes % 4 == 0 && seen.seen > 0 &&
           10 * (seen.likely + seen.zero) >= 9 * seen.seen;
}

static annex_status detect_blob(const annex_value *samples, size_t n, struct definition *definition,
                                annex_error *error)
{
    size_t bytes = samples[0].bytes;
    uint32_t dimension = definition->dimension;
    static const annex_format by_size[] = {ANNEX_F32, ANNEX_F16};
    if (codec_is_bits(definition->metric)) {
        definition->format = ANNEX_BITS;
        return ANNEX_OK;
    }
    for (size_t i = 0; dimension > 0 && i < ARRAY_LENGTH(by_size); i++) {
        if (bytes == format_bytes(by_size[i], dimension)) {
            definition->format = by_size[i];
            return ANNEX_OK;
        }
    }
    if (dimension == 0 && (looks_like_f16(samples, n) || looks_like_f32(samples, n))) {
        definition->format = looks_like_f16(samples, n) ? ANNEX_F16 : ANNEX_F32;
        return ANNEX_OK;
    }
    if (dimension > 0) {
        return error_set(error, ANNEX_INVALID,
                         "the first vector in column %s has %zu bytes, which is neither f32 nor "
                         "f16 with %u dimensions; correct the dimension or name the format",
                         definition->column, bytes, dimension);
    }
    return error_set(error, ANNEX_INVALID,
                     "the format of the vectors cannot be told from the first rows (%zu bytes "
                     "each); name it: {\"format\": \"f32\"}, or f16, bf16, i8, u8, bits, json",
                     bytes);
}

static annex_status detect_dimension(const annex_env *env, const annex_value *sample,
                                     struct definition *definition, annex_error *error)
{
    size_t n = 0;
    if (definition->format == ANNEX_JSON) {
        float *elements = NULL;
        annex_error why = {ANNEX_OK, ""};
        TRY(memory_new_raw(env, ANNEX_MAX_DIMENSION, sizeof *elements, &elements, error));
        annex_status status = annex_vector_parse(sample->data, sample->bytes, elements,
                                                 ANNEX_MAX_DIMENSION, &n, &why);
        memory_free(env, elements, ANNEX_MAX_DIMENSION, sizeof *elements);
        if (status != ANNEX_OK && status != ANNEX_FULL) {
            return error_set(error, status, "the text in column %s is no vector: %s",
                             definition->column, why.message);
        }
    } else if (definition->format == ANNEX_BITS) {
        n = 8 * sample->bytes;
    } else {
        n = sample->bytes / format_bytes(definition->format, 1);
    }
    if (n == 0 || n > ANNEX_MAX_DIMENSION) {
        return error_set(error, ANNEX_INVALID,
                         "the first vector has %zu dimensions; Annex takes 1 to %d", n,
                         ANNEX_MAX_DIMENSION);
    }
    definition->dimension = (uint32_t)n;
    return ANNEX_OK;
}

annex_status vector_detect(const annex_env *env, const annex_value *samples, size_t n,
                           struct definition *definition, annex_error *error)
{
    if (n == 0) {
        return ANNEX_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (samples[i].type != ANNEX_TEXT && samples[i].type != ANNEX_BLOB) {
            return error_set(error, ANNEX_INVALID,
                             "column %s holds numbers, not vectors; vectors are blobs or JSON text",
                             definition->column);
        }
    }
    if (definition->format == ANNEX_FORMAT_AUTO) {
        if (samples[0].type == ANNEX_TEXT) {
            definition->format = ANNEX_JSON;
        } else {
            TRY(detect_blob(samples, n, definition, error));
        }
    }
    bool text = samples[0].type == ANNEX_TEXT;
    if (text != (definition->format == ANNEX_JSON)) {
        return error_set(error, ANNEX_INVALID, "column %s holds %s, which is not the format %s",
                         definition->column, text ? "text" : "blobs",
                         annex_format_name(definition->format));
    }
    return definition->dimension > 0 ? ANNEX_OK
                                     : detect_dimension(env, &samples[0], definition, error);
}
