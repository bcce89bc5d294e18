/*
 * vec_functions.c - the functions of sqlite-vec that take one vector, and those that take none.
 */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "sqlite/vec/vec.h"

/* What the functions are compatible with and, as a semantic version's build, whose they are. */
#define VEC_VERSION "v0.1.9+annex." ANNEX_VERSION_TEXT

/* ---- Arguments --------------------------------------------------------------------------------*/

/* False: the error is the result of the function. */
static bool functions_read(sqlite3_context *context, sqlite3_value *argument,
                           struct vec_value *vector)
{
    annex_error error;
    bool valid = vec_value_read(argument, vector, &error);

    if (!valid) {
        sqlite3_result_error(context, error.message, -1);
    }
    return valid;
}

/* ---- vec_f32(v), vec_int8(v), vec_bit(v) ------------------------------------------------------*/

static void functions_make(sqlite3_context *context, sqlite3_value *argument, enum vec_type type)
{
    struct vec_value vector;
    annex_error error;

    if (!vec_value_read_as(argument, type, &vector, &error)) {
        sqlite3_result_error(context, error.message, -1);
        return;
    }
    sqlite3_result_blob64(context, vector.elements, vector.bytes,
                          vector.owned != NULL ? sqlite3_free : SQLITE_TRANSIENT);
    sqlite3_result_subtype(context, type);
}

static void functions_f32(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    functions_make(context, arguments[0], VEC_F32);
}

static void functions_int8(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    functions_make(context, arguments[0], VEC_INT8);
}

static void functions_bit(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    functions_make(context, arguments[0], VEC_BIT);
}

/* ---- vec_length(v), vec_type(v), vec_to_json(v) -----------------------------------------------*/

static void functions_length(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct vec_value vector;

    (void)n;
    if (functions_read(context, arguments[0], &vector)) {
        sqlite3_result_int64(context, (sqlite3_int64)vector.dimensions);
        vec_value_free(&vector);
    }
}

static void functions_type(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct vec_value vector;

    (void)n;
    if (functions_read(context, arguments[0], &vector)) {
        sqlite3_result_text(context, vec_type_name(vector.type), -1, SQLITE_STATIC);
        vec_value_free(&vector);
    }
}

/* An element of a vector of int8 or bits. */
static int functions_integer(const struct vec_value *vector, size_t i)
{
    if (vector->type == VEC_INT8) {
        return ((const int8_t *)vector->elements)[i];
    }
    return ((const unsigned char *)vector->elements)[i / CHAR_BIT] >> i % CHAR_BIT & 1;
}

static void functions_to_json(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct vec_value vector;
    sqlite3_str *text;
    size_t bytes;
    char *done;

    (void)n;
    if (!functions_read(context, arguments[0], &vector)) {
        return;
    }
    text = sqlite3_str_new(sqlite3_context_db_handle(context));
    for (size_t i = 0; i < vector.dimensions; i++) {
        sqlite3_str_appendchar(text, 1, i == 0 ? '[' : ',');
        if (vector.type == VEC_F32) {
            sqlite3_str_appendf(text, "%f", (double)((const float *)vector.elements)[i]);
        } else {
            sqlite3_str_appendf(text, "%d", functions_integer(&vector, i));
        }
    }
    sqlite3_str_appendchar(text, 1, ']');
    vec_value_free(&vector);
    bytes = (size_t)sqlite3_str_length(text);
    done = sqlite3_str_finish(text);
    if (done == NULL) {
        sqlite3_result_error_nomem(context);
        return;
    }
    sqlite3_result_text64(context, done, bytes, sqlite3_free, SQLITE_UTF8);
    sqlite3_result_subtype(context, VEC_SUBTYPE_JSON);
}

/* ---- vec_normalize(v), vec_slice(v, start, end) -----------------------------------------------*/

/* The norm is a sum of f32 in order, as in sqlite-vec, so that the bytes are the same. */
static float *functions_unit(const struct vec_value *vector)
{
    const float *elements = vector->elements;
    float *unit = sqlite3_malloc64(vector->bytes);
    float norm = 0;

    for (size_t i = 0; i < vector->dimensions; i++) {
        norm += elements[i] * elements[i];
    }
    norm = sqrtf(norm);
    for (size_t i = 0; unit != NULL && i < vector->dimensions; i++) {
        unit[i] = elements[i] / norm;
    }
    return unit;
}

static void functions_normalize(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct vec_value vector;

    (void)n;
    if (!functions_read(context, arguments[0], &vector)) {
        return;
    }
    if (vector.type != VEC_F32) {
        sqlite3_result_error(context, "only float32 vectors are supported when normalizing", -1);
    } else {
        vec_result(context, VEC_F32, functions_unit(&vector), vector.bytes);
    }
    vec_value_free(&vector);
}

/* What is wrong with the bounds of a slice, or NULL. */
static const char *slice_refusal(const struct vec_value *vector, sqlite3_int64 start,
                                 sqlite3_int64 end)
{
    sqlite3_int64 dimensions = (sqlite3_int64)vector->dimensions;

    if (start < 0) {
        return "slice 'start' index must be a postive number.";
    }
    if (end < 0) {
        return "slice 'end' index must be a postive number.";
    }
    if (start > dimensions) {
        return "slice 'start' index is greater than the number of dimensions";
    }
    if (end > dimensions) {
        return "slice 'end' index is greater than the number of dimensions";
    }
    if (start > end) {
        return "slice 'start' index is greater than 'end' index";
    }
    if (start == end) {
        return "slice 'start' index is equal to the 'end' index, vectors must have non-zero length";
    }
    if (vector->type == VEC_BIT && start % CHAR_BIT != 0) {
        return "start index must be divisible by 8.";
    }
    if (vector->type == VEC_BIT && end % CHAR_BIT != 0) {
        return "end index must be divisible by 8.";
    }
    return NULL;
}

static void functions_slice(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct vec_value vector;
    sqlite3_int64 start = sqlite3_value_int64(arguments[1]);
    sqlite3_int64 end = sqlite3_value_int64(arguments[2]);
    const char *refusal;

    (void)n;
    if (!functions_read(context, arguments[0], &vector)) {
        return;
    }
    refusal = slice_refusal(&vector, start, end);
    if (refusal != NULL) {
        sqlite3_result_error(context, refusal, -1);
    } else {
        size_t first = (size_t)start * vector.bytes / vector.dimensions;
        size_t last = (size_t)end * vector.bytes / vector.dimensions;

        sqlite3_result_blob64(context, (const char *)vector.elements + first, last - first,
                              SQLITE_TRANSIENT);
        sqlite3_result_subtype(context, vector.type);
    }
    vec_value_free(&vector);
}

/* ---- vec_quantize_binary(v), vec_quantize_int8(v, 'unit') -------------------------------------*/

/* One bit an element: whether it is positive. */
static unsigned char *functions_signs(const struct vec_value *vector)
{
    size_t bytes = vector->dimensions / CHAR_BIT;
    unsigned char *bits = sqlite3_malloc64(bytes);

    if (bits == NULL) {
        return NULL;
    }
    memset(bits, 0, bytes);
    for (size_t i = 0; i < vector->dimensions; i++) {
        bool positive = vector->type == VEC_F32 ? ((const float *)vector->elements)[i] > 0
                                                : functions_integer(vector, i) > 0;

        bits[i / CHAR_BIT] |= (unsigned char)(positive << i % CHAR_BIT);
    }
    return bits;
}

static void functions_quantize_binary(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct vec_value vector;

    (void)n;
    if (!functions_read(context, arguments[0], &vector)) {
        return;
    }
    if (vector.dimensions % CHAR_BIT != 0) {
        sqlite3_result_error(
            context, "Binary quantization requires vectors with a length divisible by 8", -1);
    } else if (vector.type == VEC_BIT) {
        sqlite3_result_error(context, "Can only binary quantize float or int8 vectors", -1);
    } else {
        vec_result(context, VEC_BIT, functions_signs(&vector), vector.dimensions / CHAR_BIT);
    }
    vec_value_free(&vector);
}

/* Maps [-1, 1] to [-128, 127], rounding towards zero; what lies outside becomes the nearest. */
static int8_t *functions_unit_int8(const struct vec_value *vector)
{
    static const float step = (float)(2.0 / 255);
    const float *elements = vector->elements;
    int8_t *quantized = sqlite3_malloc64(vector->dimensions);

    for (size_t i = 0; quantized != NULL && i < vector->dimensions; i++) {
        double level = ((double)elements[i] + 1) / (double)step - 128;

        quantized[i] = (int8_t)fmax(-128, fmin(127, level));
    }
    return quantized;
}

static void functions_quantize_int8(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct vec_value vector;
    const char *range;
    annex_error error;

    (void)n;
    if (!vec_value_read_as(arguments[0], VEC_F32, &vector, &error)) {
        sqlite3_result_error(context, error.message, -1);
        return;
    }
    range = (const char *)sqlite3_value_text(arguments[1]);
    if (range == NULL || sqlite3_stricmp(range, "unit") != 0) {
        sqlite3_result_error(context, "2nd argument to vec_quantize_int8() must be 'unit'.", -1);
    } else {
        vec_result(context, VEC_INT8, functions_unit_int8(&vector), vector.dimensions);
    }
    vec_value_free(&vector);
}

/* ---- About this library -----------------------------------------------------------------------*/

static void functions_version(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    (void)arguments;
    sqlite3_result_text(context, VEC_VERSION, -1, SQLITE_STATIC);
}

/* Four lines; programs look for the last. */
static void functions_debug(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    char *text = sqlite3_mprintf("Version: " VEC_VERSION "\n"
                                 "Library: Annex %s\n"
                                 "SQLite: %s\n"
                                 "Build flags: %s",
                                 annex_version(), sqlite3_libversion(), annex_isa());

    (void)n;
    (void)arguments;
    if (text == NULL) {
        sqlite3_result_error_nomem(context);
    } else {
        sqlite3_result_text(context, text, -1, sqlite3_free);
    }
}

const struct function vec_functions[] = {
    {"vec_bit", 1, 1, VEC_TAKES | VEC_GIVES, functions_bit},
    {"vec_debug", 0, 0, SQLITE_INNOCUOUS, functions_debug},
    {"vec_f32", 1, 1, VEC_TAKES | VEC_GIVES, functions_f32},
    {"vec_int8", 1, 1, VEC_TAKES | VEC_GIVES, functions_int8},
    {"vec_length", 1, 1, VEC_TAKES, functions_length},
    {"vec_normalize", 1, 1, VEC_TAKES | VEC_GIVES, functions_normalize},
    {"vec_quantize_binary", 1, 1, VEC_TAKES | VEC_GIVES, functions_quantize_binary},
    {"vec_quantize_int8", 2, 2, VEC_TAKES | VEC_GIVES, functions_quantize_int8},
    {"vec_slice", 3, 3, VEC_TAKES | VEC_GIVES, functions_slice},
    {"vec_to_json", 1, 1, VEC_TAKES | VEC_GIVES, functions_to_json},
    {"vec_type", 1, 1, VEC_TAKES, functions_type},
    {"vec_version", 0, 0, VEC_TAKES, functions_version}, /* last: says that all are there */
    {NULL, 0, 0, 0, NULL},
};
