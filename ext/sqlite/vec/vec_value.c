/*
 * vec_value.c - reads the vectors of sqlite-vec: a blob of f32, int8 or bits, or a JSON array of
 * f32 or int8.
 *
 * What is accepted is what sqlite-vec accepts, because people's SQL relies on it: commas may be
 * missing or doubled, the closing bracket may be missing, what follows it is ignored, and numbers
 * are those of strtod and strtol. Unlike there, numbers do not depend on the locale of the program.
 */
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite/vec/vec.h"

static const char vec_zero_length[] = "zero-length vectors are not supported.";

const char *vec_type_name(enum vec_type type)
{
    switch (type) {
    case VEC_F32:
        return "float32";
    case VEC_BIT:
        return "bit";
    case VEC_INT8:
        return "int8";
    }
    return "";
}

/* The first loop has no branch, so that compilers vectorise it. */
static bool vec_is_finite(const float *elements, size_t n, annex_error *error)
{
    static const uint32_t exponent = 0x7f800000;
    uint32_t found = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &elements[i], sizeof bits);
        found |= (bits & exponent) == exponent;
    }
    for (size_t i = 0; found != 0 && i < n; i++) {
        if (!isfinite(elements[i])) {
            connection_refuse(error, "invalid float32 vector: element %zu is %s", i,
                              isnan(elements[i]) ? "NaN" : "Inf");
            return false;
        }
    }
    return true;
}

/* Memory of at least one byte that becomes vector->owned. */
static void *vec_own(struct vec_value *vector, size_t bytes, annex_error *error)
{
    vector->owned = sqlite3_malloc64(bytes + 1);
    vector->elements = vector->owned;
    if (vector->owned == NULL) {
        connection_refuse(error, "out of memory");
    }
    return vector->owned;
}

/* ---- Blobs ------------------------------------------------------------------------------------*/

static bool vec_read_f32_blob(sqlite3_value *value, struct vec_value *vector, annex_error *error)
{
    if (vector->bytes % sizeof(float) != 0) {
        connection_refuse(error,
                          "invalid float32 vector BLOB length. Must be divisible by %zu, found %zu",
                          sizeof(float), vector->bytes);
        return false;
    }
    if ((uintptr_t)vector->elements % _Alignof(float) != 0) {
        if (vec_own(vector, vector->bytes, error) == NULL) {
            return false;
        }
        memcpy(vector->owned, sqlite3_value_blob(value), vector->bytes);
    }
    vector->dimensions = vector->bytes / sizeof(float);
    return vec_is_finite(vector->elements, vector->dimensions, error);
}

static bool vec_read_blob(sqlite3_value *value, struct vec_value *vector, annex_error *error)
{
    vector->elements = sqlite3_value_blob(value);
    vector->bytes = (size_t)sqlite3_value_bytes(value);
    if (vector->bytes == 0 || vector->elements == NULL) {
        connection_refuse(error, "%s", vec_zero_length);
        return false;
    }
    if (vector->type == VEC_F32) {
        return vec_read_f32_blob(value, vector, error);
    }
    vector->dimensions = vector->type == VEC_BIT ? vector->bytes * CHAR_BIT : vector->bytes;
    return true;
}

/* ---- JSON -------------------------------------------------------------------------------------*/

static bool vec_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/*
 * Reads one number to element i and returns what follows it. Without a number it returns `at` and
 * writes nothing. The text ends with a zero byte. NULL: an error.
 */
static const char *vec_read_f32(const char *at, locale_t locale, void *elements, size_t i,
                                annex_error *error)
{
    char *end;
    double number;

    errno = 0;
    number = strtod_l(at, &end, locale);
    if (errno != 0 && (number == 0 || isinf(number))) {
        connection_refuse(error, "JSON parsing error");
        return NULL;
    }
    if (end != at) {
        ((float *)elements)[i] = (float)number;
    }
    return end;
}

static const char *vec_read_int8(const char *at, locale_t locale, void *elements, size_t i,
                                 annex_error *error)
{
    char *end;
    long number;

    errno = 0;
    number = strtol_l(at, &end, 10, locale);
    if (errno != 0) {
        connection_refuse(error, "JSON parsing error");
        return NULL;
    }
    if (number < INT8_MIN || number > INT8_MAX) {
        connection_refuse(error, "JSON parsing error: value out of range for int8");
        return NULL;
    }
    if (end != at) {
        ((int8_t *)elements)[i] = (int8_t)number;
    }
    return end;
}

/* Reads what follows the opening bracket. There is room for an element every two characters. */
static bool vec_read_elements(const char *at, const char *end, struct vec_value *vector,
                              annex_error *error)
{
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    bool valid = locale != (locale_t)0;

    if (!valid) {
        connection_refuse(error, "out of memory");
        return false;
    }
    while (valid && at < end && *at != ']') {
        const char *from = at;

        at = (vector->type == VEC_F32 ? vec_read_f32 : vec_read_int8)(from, locale, vector->owned,
                                                                      vector->dimensions, error);
        valid = at != NULL && at != from;
        if (at == from) {
            connection_refuse(error, "JSON parsing error");
        }
        if (valid) {
            vector->dimensions++;
            while (vec_is_space(*at) || *at == ',') {
                at++;
            }
        }
    }
    freelocale(locale);
    return valid;
}

static bool vec_read_json(sqlite3_value *value, struct vec_value *vector, annex_error *error)
{
    const char *text = (const char *)sqlite3_value_text(value);
    const char *end;
    size_t capacity;
    size_t element_bytes = vector->type == VEC_F32 ? sizeof(float) : 1;

    if (text == NULL || sqlite3_value_bytes(value) == 0) {
        connection_refuse(error, "%s", text == NULL ? "out of memory" : vec_zero_length);
        return false;
    }
    end = text + sqlite3_value_bytes(value);
    while (vec_is_space(*text)) {
        text++;
    }
    if (*text != '[') {
        connection_refuse(error, "JSON array parsing error: Input does not start with '['");
        return false;
    }
    text++;
    /* Each element but the first takes two characters or more. */
    capacity = (size_t)(end - text + 1) / 2;
    if (vec_own(vector, capacity * element_bytes, error) == NULL ||
        !vec_read_elements(text, end, vector, error)) {
        return false;
    }
    if (vector->dimensions == 0) {
        connection_refuse(error, "%s", vec_zero_length);
        return false;
    }
    vector->bytes = vector->dimensions * element_bytes;
    return vector->type != VEC_F32 || vec_is_finite(vector->elements, vector->dimensions, error);
}

/* ---- Values -----------------------------------------------------------------------------------*/

static bool vec_refuse_value(sqlite3_value *value, enum vec_type type, annex_error *error)
{
    static const char *const names[] = {"INTEGER", "FLOAT", "TEXT", "BLOB", "NULL"};

    if (type == VEC_F32) {
        connection_refuse(error,
                          "Input must have type BLOB (compact format) or TEXT (JSON), found %s",
                          names[sqlite3_value_type(value) - SQLITE_INTEGER]);
    } else if (type == VEC_BIT) {
        connection_refuse(error, "Unknown type for bitvector.");
    } else {
        connection_refuse(error, "Unknown type for int8 vector.");
    }
    return false;
}

bool vec_value_read_as(sqlite3_value *value, enum vec_type type, struct vec_value *vector,
                       annex_error *error)
{
    bool valid;

    *vector = (struct vec_value){.type = type};
    if (sqlite3_value_type(value) == SQLITE_BLOB) {
        valid = vec_read_blob(value, vector, error);
    } else if (sqlite3_value_type(value) == SQLITE_TEXT && type != VEC_BIT) {
        valid = vec_read_json(value, vector, error);
    } else {
        valid = vec_refuse_value(value, type, error);
    }
    if (!valid) {
        vec_value_free(vector);
    }
    return valid;
}

bool vec_value_read(sqlite3_value *value, struct vec_value *vector, annex_error *error)
{
    unsigned subtype = sqlite3_value_subtype(value);

    switch (subtype) {
    case 0:
    case VEC_SUBTYPE_JSON:
        return vec_value_read_as(value, VEC_F32, vector, error);
    case VEC_F32:
    case VEC_BIT:
    case VEC_INT8:
        return vec_value_read_as(value, (enum vec_type)subtype, vector, error);
    default:
        *vector = (struct vec_value){0};
        connection_refuse(error, "Unknown subtype: %u", subtype);
        return false;
    }
}

void vec_result(sqlite3_context *context, enum vec_type type, void *elements, size_t bytes)
{
    if (elements == NULL) {
        sqlite3_result_error_nomem(context);
        return;
    }
    sqlite3_result_blob64(context, elements, bytes, sqlite3_free);
    sqlite3_result_subtype(context, type);
}

void vec_value_free(struct vec_value *vector)
{
    sqlite3_free(vector->owned);
    *vector = (struct vec_value){0};
}
