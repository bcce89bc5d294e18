/*
 * operand.c - a vector as SQL gives it, a blob or a JSON array, read into f32 or packed bits, and
 * written as a blob of another format.
 *
 * A blob may lie at any address, so elements are always copied.
 */
#include <math.h>
#include <string.h>

#include "sqlite/extension.h"

static struct operand *operand_new(size_t n, size_t bytes, bool is_text, annex_error *error)
{
    struct operand *vector = sqlite3_malloc64(sizeof *vector + bytes + sizeof(float));

    if (vector == NULL) {
        connection_refuse(error, "out of memory for a vector of %zu elements", n);
        return NULL;
    }
    *vector = (struct operand){.n = n, .bytes = bytes, .is_text = is_text};
    return vector;
}

/* ---- Reading ----------------------------------------------------------------------------------*/

static size_t operand_element_bytes(annex_format format)
{
    switch (format) {
    case ANNEX_F64:
        return 8;
    case ANNEX_F32:
        return 4;
    case ANNEX_F16:
    case ANNEX_BF16:
        return 2;
    case ANNEX_I8:
    case ANNEX_U8:
    case ANNEX_BITS:
    case ANNEX_FORMAT_AUTO:
    case ANNEX_JSON:
        break;
    }
    return 1;
}

/* NULL with an error. */
static struct operand *operand_from_json(sqlite3_value *value, annex_error *error)
{
    const char *text = (const char *)sqlite3_value_text(value);
    size_t bytes = (size_t)sqlite3_value_bytes(value);
    /* Each element but the last takes two characters or more. */
    size_t capacity = bytes / 2 < ANNEX_MAX_DIMENSION ? bytes / 2 : ANNEX_MAX_DIMENSION;
    struct operand *vector = NULL;
    annex_status status;

    if (text != NULL) {
        vector = operand_new(capacity, capacity * sizeof(float), true, error);
    } else {
        connection_refuse(error, "out of memory reading a vector");
    }
    if (vector == NULL) {
        return NULL;
    }
    status = annex_vector_parse(text, bytes, vector->elements, capacity, &vector->n, error);
    if (status == ANNEX_FULL) {
        connection_refuse(error, "the vector has %zu elements; %d is the most", vector->n,
                          ANNEX_MAX_DIMENSION);
    }
    if (status != ANNEX_OK) {
        sqlite3_free(vector);
        return NULL;
    }
    vector->bytes = vector->n * sizeof(float);
    return vector;
}

/* A blob as f32, or as it is for ANNEX_BITS. */
static struct operand *operand_from_blob(sqlite3_value *value, annex_format format,
                                         annex_error *error)
{
    const void *blob = sqlite3_value_blob(value);
    size_t bytes = (size_t)sqlite3_value_bytes(value);
    size_t element_bytes = operand_element_bytes(format);
    size_t n = bytes / element_bytes;
    struct operand *vector;

    if (bytes % element_bytes != 0) {
        connection_refuse(error,
                          "a blob of %zu bytes is not a vector of %s: %zu bytes an "
                          "element do not divide its length",
                          bytes, annex_format_name(format), element_bytes);
        return NULL;
    }
    if (format == ANNEX_BITS) {
        vector = operand_new(8 * bytes, bytes, false, error);
        if (vector != NULL && bytes > 0) {
            memcpy(vector->elements, blob, bytes);
        }
        return vector;
    }
    vector = operand_new(n, n * sizeof(float), false, error);
    if (vector != NULL && n > 0 &&
        annex_vector_widen(format, blob, n, vector->elements, error) != ANNEX_OK) {
        sqlite3_free(vector);
        vector = NULL;
    }
    return vector;
}

/* Packs elements that are 0 or 1 into bits, in place. */
static bool operand_pack_bits(struct operand *vector, annex_error *error)
{
    unsigned char *bits = (unsigned char *)vector->elements;

    for (size_t i = 0; i < vector->n; i++) {
        float element = vector->elements[i];

        if (element != 0 && element != 1) {
            connection_refuse(error,
                              "element %zu of the vector is %g; a vector of bits has "
                              "only 0 and 1",
                              i, (double)element);
            return false;
        }
        /* Byte i / 8 lies in an element that was read before, or is this one. */
        if (i % 8 == 0) {
            bits[i / 8] = 0;
        }
        bits[i / 8] |= (unsigned char)((element == 1) << i % 8);
    }
    vector->bytes = (vector->n + 7) / 8;
    return true;
}

struct operand *operand_read(sqlite3_value *value, annex_format format, annex_error *error)
{
    struct operand *vector;

    switch (sqlite3_value_type(value)) {
    case SQLITE_BLOB:
        return operand_from_blob(value, format, error);
    case SQLITE_TEXT:
        vector = operand_from_json(value, error);
        if (vector != NULL && format == ANNEX_BITS && !operand_pack_bits(vector, error)) {
            sqlite3_free(vector);
            vector = NULL;
        }
        return vector;
    default:
        connection_refuse(error, "a vector is a blob or a JSON array as text, not a number");
        return NULL;
    }
}

/* ---- Writing ----------------------------------------------------------------------------------*/

/*
 * Round to nearest, ties to even, as the processor does; magnitudes from 65520 on become infinite.
 */
static uint16_t narrow_f16(float value)
{
    uint32_t bits;
    uint32_t magnitude;
    uint32_t half;
    uint32_t sign;

    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 16 & 0x8000;
    magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x477ff000) {
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude < 0x38800000) {
        /* An f16 subnormal counts units of 2^-24; rintf rounds to even. */
        float units;

        memcpy(&units, &magnitude, sizeof units);
        return (uint16_t)(sign | (uint32_t)rintf(units * 0x1p24f));
    }
    half = (magnitude >> 13) - (UINT32_C(112) << 10);
    magnitude &= 0x1fff;
    half += magnitude > 0x1000 || (magnitude == 0x1000 && (half & 1) != 0);
    return (uint16_t)(sign | half);
}

static uint16_t narrow_bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Writes one element behind the others. False when the format cannot hold it. */
static bool narrow_element(annex_format format, float value, unsigned char *to)
{
    uint16_t half;
    double wide = value;
    signed char small;

    switch (format) {
    case ANNEX_F16:
        half = narrow_f16(value);
        memcpy(to, &half, sizeof half);
        return (half & 0x7fff) < 0x7c00;
    case ANNEX_BF16:
        half = narrow_bf16(value);
        memcpy(to, &half, sizeof half);
        return (half & 0x7fff) < 0x7f80;
    case ANNEX_I8:
        if (!(value >= -128 && value <= 127) || value != truncf(value)) {
            return false;
        }
        small = (signed char)value;
        memcpy(to, &small, sizeof small);
        return true;
    case ANNEX_U8:
        if (!(value >= 0 && value <= 255) || value != truncf(value)) {
            return false;
        }
        *to = (unsigned char)value;
        return true;
    case ANNEX_F64:
        memcpy(to, &wide, sizeof wide);
        return true;
    case ANNEX_F32:
    case ANNEX_BITS:
    case ANNEX_JSON:
    case ANNEX_FORMAT_AUTO:
        break;
    }
    return false;
}

struct operand *operand_narrow(struct operand *vector, annex_format format, annex_error *error)
{
    size_t element_bytes = operand_element_bytes(format);
    struct operand *narrow;

    if (format == ANNEX_F32 || format == ANNEX_BITS) {
        return vector;
    }
    narrow = operand_new(vector->n, vector->n * element_bytes, false, error);
    for (size_t i = 0; narrow != NULL && i < vector->n; i++) {
        unsigned char *to = (unsigned char *)narrow->elements + i * element_bytes;

        if (!narrow_element(format, vector->elements[i], to)) {
            connection_refuse(error, "element %zu of the vector, %g, cannot be stored as %s", i,
                              (double)vector->elements[i], annex_format_name(format));
            sqlite3_free(narrow);
            narrow = NULL;
        }
    }
    sqlite3_free(vector);
    return narrow;
}

struct operand *operand_unpack_bits(struct operand *packed, annex_error *error)
{
    const unsigned char *bits = (const unsigned char *)packed->elements;
    struct operand *vector = operand_new(packed->n, packed->n * sizeof(float), false, error);

    for (size_t i = 0; vector != NULL && i < packed->n; i++) {
        vector->elements[i] = (float)(bits[i / 8] >> i % 8 & 1);
    }
    sqlite3_free(packed);
    return vector;
}
