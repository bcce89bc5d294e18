/*
 * vectors.c - the SQL functions that need no index: annex_distance, annex_encode, annex_decode,
 * annex_version, annex_isa.
 *
 * NULL in gives NULL out. A vector that is the same text for all rows of a statement is read once
 * (auxiliary data of SQLite).
 */
#include <math.h>
#include <string.h>

#include "sqlite/extension.h"

/* The format of blobs that an optional last argument names; f32 when it is left out. */
static bool vectors_read_format(bool given, sqlite3_value *argument, annex_format *format,
                                annex_error *error)
{
    const char *name;

    *format = ANNEX_F32;
    if (!given) {
        return true;
    }
    if (!function_text(argument, "format", &name, error) ||
        annex_format_parse(name, format, error) != ANNEX_OK) {
        return false;
    }
    if (*format == ANNEX_JSON || *format == ANNEX_FORMAT_AUTO) {
        connection_refuse(
            error, "%s is not a format of blobs; name f32, f16, bf16, f64, i8, u8 or bits", name);
        return false;
    }
    return true;
}

/* ---- annex_distance(metric, a, b[, format]) ---------------------------------------------------*/

/* Bits given as JSON may have any dimension; as a blob they have a multiple of 8. */
static bool distance_dimensions_fit(const struct operand *a, const struct operand *b,
                                    annex_error *error)
{
    bool same = a->bytes == b->bytes && (a->is_text != b->is_text || a->n == b->n);

    if (!same) {
        connection_refuse(error,
                          "the first vector has %zu elements and the second %zu; a "
                          "distance needs two of the same dimension",
                          a->n, b->n);
    }
    return same;
}

static bool distance_read_metric(int n, sqlite3_value **arguments, annex_metric *metric,
                                 annex_format *format, annex_error *error)
{
    const char *name;

    if (!function_text(arguments[0], "metric", &name, error) ||
        annex_metric_parse(name, metric, error) != ANNEX_OK ||
        !vectors_read_format(n == 4, arguments[n - 1], format, error)) {
        return false;
    }
    if (*metric == ANNEX_HAMMING || *metric == ANNEX_JACCARD) {
        *format = ANNEX_BITS;
    }
    return true;
}

/* What the auxiliary data of a vector argument holds: how it was read, and the vector. */
struct kept {
    annex_format format;
    struct operand *vector;
};

static void kept_free(void *argument)
{
    struct kept *kept = argument;

    sqlite3_free(kept->vector);
    sqlite3_free(kept);
}

/* The vector of argument `i`, from the auxiliary data when it is there; *owned when it is not. */
static struct operand *distance_take(sqlite3_context *context, sqlite3_value **arguments, int i,
                                     annex_format format, bool *owned, annex_error *error)
{
    const struct kept *kept = sqlite3_get_auxdata(context, i);

    *owned = kept == NULL || kept->format != format;
    return *owned ? operand_read(arguments[i], format, error) : kept->vector;
}

/*
 * Gives a vector that was read from text to SQLite, which keeps it while the argument is the same.
 */
static void distance_keep(sqlite3_context *context, int i, annex_format format,
                          struct operand *vector)
{
    struct kept *kept = NULL;

    if (vector != NULL && vector->is_text) {
        kept = sqlite3_malloc64(sizeof *kept);
    }
    if (kept == NULL) {
        sqlite3_free(vector);
        return;
    }
    *kept = (struct kept){format, vector};
    sqlite3_set_auxdata(context, i, kept, kept_free);
}

static void vectors_distance(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct operand *a = NULL;
    struct operand *b = NULL;
    bool a_owned = false;
    bool b_owned = false;
    annex_metric metric;
    annex_format format;
    double distance = 0;
    annex_error error;

    if (sqlite3_value_type(arguments[1]) == SQLITE_NULL ||
        sqlite3_value_type(arguments[2]) == SQLITE_NULL) {
        return;
    }
    if (!distance_read_metric(n, arguments, &metric, &format, &error) ||
        (a = distance_take(context, arguments, 1, format, &a_owned, &error)) == NULL ||
        (b = distance_take(context, arguments, 2, format, &b_owned, &error)) == NULL ||
        !distance_dimensions_fit(a, b, &error) ||
        annex_distance(metric, format == ANNEX_BITS ? 8 * a->bytes : a->n, a->elements, b->elements,
                       &distance, &error) != ANNEX_OK) {
        connection_fail_function(context, &error);
    } else {
        sqlite3_result_double(context, distance); /* NaN becomes NULL */
    }
    if (a_owned) {
        distance_keep(context, 1, format, a);
    }
    if (b_owned) {
        distance_keep(context, 2, format, b);
    }
}

/* ---- annex_encode(json[, format]), annex_decode(blob[, format]) -------------------------------*/

static void vectors_encode(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct operand *vector = NULL;
    annex_format format;
    annex_error error;

    if (sqlite3_value_type(arguments[0]) == SQLITE_NULL) {
        return;
    }
    if (sqlite3_value_type(arguments[0]) != SQLITE_TEXT) {
        connection_refuse(&error, "annex_encode takes a JSON array as text");
        connection_fail_function(context, &error);
        return;
    }
    if (!vectors_read_format(n == 2, arguments[n - 1], &format, &error) ||
        (vector = operand_read(arguments[0], format, &error)) == NULL ||
        (vector = operand_narrow(vector, format, &error)) == NULL) {
        connection_fail_function(context, &error);
    } else {
        sqlite3_result_blob64(context, vector->elements, vector->bytes, SQLITE_TRANSIENT);
    }
    sqlite3_free(vector);
}

static bool decode_is_finite(const struct operand *vector, annex_error *error)
{
    for (size_t i = 0; i < vector->n; i++) {
        if (!isfinite(vector->elements[i])) {
            connection_refuse(error, "element %zu of the vector is %s, which JSON cannot say", i,
                              isnan(vector->elements[i]) ? "NaN" : "infinite");
            return false;
        }
    }
    return true;
}

/* The result is marked as JSON, so that json_object('v', annex_decode(…)) nests it. */
static void decode_result(sqlite3_context *context, const struct operand *vector)
{
    size_t bytes = annex_vector_format(vector->elements, vector->n, NULL, 0);
    char *text = sqlite3_malloc64(bytes + 1);

    if (text == NULL) {
        sqlite3_result_error_nomem(context);
        return;
    }
    annex_vector_format(vector->elements, vector->n, text, bytes + 1);
    sqlite3_result_text64(context, text, bytes, sqlite3_free, SQLITE_UTF8);
    sqlite3_result_subtype(context, 'J');
}

static void vectors_decode(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct operand *vector = NULL;
    annex_format format;
    annex_error error;
    bool done = false;

    if (sqlite3_value_type(arguments[0]) == SQLITE_NULL) {
        return;
    }
    if (sqlite3_value_type(arguments[0]) != SQLITE_BLOB) {
        connection_refuse(&error, "annex_decode takes a blob");
    } else if (vectors_read_format(n == 2, arguments[n - 1], &format, &error)) {
        vector = operand_read(arguments[0], format, &error);
        if (vector != NULL && format == ANNEX_BITS) {
            vector = operand_unpack_bits(vector, &error);
        }
        done = vector != NULL && decode_is_finite(vector, &error);
    }
    if (done) {
        decode_result(context, vector);
    } else {
        connection_fail_function(context, &error);
    }
    sqlite3_free(vector);
}

/* ---- About this library -----------------------------------------------------------------------*/

static void vectors_version(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    (void)arguments;
    sqlite3_result_text(context, annex_version(), -1, SQLITE_STATIC);
}

static void vectors_isa(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    (void)arguments;
    sqlite3_result_text(context, annex_isa(), -1, SQLITE_STATIC);
}

#define VECTORS_PURE (SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS)

const struct function vector_functions[] = {
    {"annex_distance", 3, 4, VECTORS_PURE, vectors_distance},
    {"annex_encode", 1, 2, VECTORS_PURE, vectors_encode},
    {"annex_decode", 1, 2, VECTORS_PURE | SQLITE_RESULT_SUBTYPE, vectors_decode},
    {"annex_isa", 0, 0, SQLITE_INNOCUOUS, vectors_isa},
    {"annex_version", 0, 0, VECTORS_PURE, vectors_version},
    {NULL, 0, 0, 0, NULL},
};
