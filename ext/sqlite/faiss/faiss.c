/*
 * faiss.c - registers the functions of datasette-faiss, and the two that need no table:
 * faiss_encode(json) and faiss_decode(blob).
 *
 * faiss_encode reads what json.loads of Python reads, an array of numbers, NaN, Infinity, true and
 * false: each becomes a double first and then an f32, which is infinite when the number is too
 * large. A whole number has no -0, and one that no double can hold is an error.
 */
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite/faiss/faiss.h"
#include "sqlite/statement.h"

/* ---- faiss_encode -----------------------------------------------------------------------------*/

struct reader {
    const char *c;
    const char *end;
    size_t n;        /* elements read */
    locale_t locale; /* in which numbers have a point */
};

static bool reader_refuse(const struct reader *reader, const char *expected, annex_error *error)
{
    if (reader->c == reader->end) {
        connection_refuse(error, "faiss_encode: expected %s after %zu numbers, and the text ends",
                          expected, reader->n);
    } else {
        connection_refuse(error, "faiss_encode: expected %s after %zu numbers, and there is '%.*s'",
                          expected, reader->n,
                          reader->end - reader->c < 16 ? (int)(reader->end - reader->c) : 16,
                          reader->c);
    }
    return false;
}

static void reader_skip_space(struct reader *reader)
{
    while (reader->c < reader->end && *reader->c != '\0' && strchr(" \t\n\r", *reader->c) != NULL) {
        reader->c++;
    }
}

static const char *skip_digits(const char *c, const char *end)
{
    while (c < end && *c >= '0' && *c <= '9') {
        c++;
    }
    return c;
}

/* The end of the JSON number at `c`, or NULL. *is_whole: it has neither fraction nor exponent. */
static const char *number_end(const char *c, const char *end, bool *is_whole)
{
    const char *digits = c < end && *c == '-' ? c + 1 : c;

    c = skip_digits(digits, end);
    if (c == digits || (*digits == '0' && c > digits + 1)) {
        return NULL;
    }
    *is_whole = true;
    if (c < end && *c == '.') {
        digits = c + 1;
        c = skip_digits(digits, end);
        *is_whole = false;
    }
    if (c > digits && c < end && (*c == 'e' || *c == 'E')) {
        digits = c + 1;
        digits += digits < end && (*digits == '+' || *digits == '-');
        c = skip_digits(digits, end);
        *is_whole = false;
    }
    return c > digits ? c : NULL;
}

static bool reader_take_word(struct reader *reader, float *element)
{
    static const struct {
        const char *word;
        float value;
    } words[] = {
        {"NaN", NAN}, {"Infinity", INFINITY}, {"-Infinity", -INFINITY}, {"true", 1}, {"false", 0}};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t bytes = strlen(words[i].word);

        if ((size_t)(reader->end - reader->c) >= bytes &&
            memcmp(reader->c, words[i].word, bytes) == 0) {
            reader->c += bytes;
            *element = words[i].value;
            return true;
        }
    }
    return false;
}

static bool reader_take_number(struct reader *reader, float *element, annex_error *error)
{
    bool is_whole = false;
    const char *after = number_end(reader->c, reader->end, &is_whole);
    double value;

    /* strtod stops there too: none of these continues a number. It needs one of them to stop. */
    if (after == NULL || after == reader->end || strchr(",] \t\n\r", *after) == NULL) {
        return reader_refuse(reader, "a number", error);
    }
    value = strtod_l(reader->c, NULL, reader->locale);
    if (is_whole && isinf(value)) {
        return reader_refuse(reader, "a number below 1.8e308", error);
    }
    *element = (float)(is_whole && value == 0 ? 0 : value);
    reader->c = after;
    return true;
}

/* Reads "1, 2]": the opening bracket was there. Texts have at most one element for two bytes. */
static bool reader_take_elements(struct reader *reader, float *vector, annex_error *error)
{
    for (;;) {
        reader_skip_space(reader);
        if (!reader_take_word(reader, &vector[reader->n]) &&
            !reader_take_number(reader, &vector[reader->n], error)) {
            return false;
        }
        reader->n++;
        reader_skip_space(reader);
        if (reader->c == reader->end || (*reader->c != ',' && *reader->c != ']')) {
            return reader_refuse(reader, "',' or ']'", error);
        }
        if (*reader->c++ == ']') {
            return true;
        }
    }
}

static bool reader_take_vector(struct reader *reader, float *vector, annex_error *error)
{
    reader_skip_space(reader);
    if (reader->c == reader->end || *reader->c != '[') {
        return reader_refuse(reader, "a JSON array", error);
    }
    reader->c++;
    reader_skip_space(reader);
    if (reader->c < reader->end && *reader->c == ']') {
        reader->c++;
    } else if (!reader_take_elements(reader, vector, error)) {
        return false;
    }
    reader_skip_space(reader);
    return reader->c == reader->end || reader_refuse(reader, "the end of the text", error);
}

static void faiss_encode(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    int type = sqlite3_value_type(arguments[0]);
    struct reader reader = {.c = type == SQLITE_TEXT
                                     ? (const char *)sqlite3_value_text(arguments[0])
                                     : sqlite3_value_blob(arguments[0]),
                            .locale = newlocale(LC_ALL_MASK, "C", (locale_t)0)};
    size_t bytes = (size_t)sqlite3_value_bytes(arguments[0]);
    float *vector = sqlite3_malloc64((bytes / 2 + 1) * sizeof *vector);
    annex_error error;
    bool done = false;

    (void)n;
    if (type != SQLITE_TEXT && type != SQLITE_BLOB) {
        connection_refuse(&error, "faiss_encode takes a JSON array of numbers as text");
    } else if (vector == NULL || reader.locale == (locale_t)0 || (reader.c == NULL && bytes > 0)) {
        statement_nomem(&error);
    } else {
        reader.end = reader.c + bytes;
        done = reader_take_vector(&reader, vector, &error);
    }
    if (done) {
        sqlite3_result_blob64(context, vector, reader.n * sizeof *vector, SQLITE_TRANSIENT);
    } else {
        connection_fail_function(context, &error);
    }
    sqlite3_free(vector);
    if (reader.locale != (locale_t)0) {
        freelocale(reader.locale);
    }
}

/* ---- faiss_decode -----------------------------------------------------------------------------*/

static void faiss_decode(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    sqlite3_str *text;
    const void *blob;
    size_t dimension;
    annex_error error;

    (void)n;
    if (!faiss_read_blob(arguments[0], "the argument of faiss_decode", &blob, &dimension, &error)) {
        connection_fail_function(context, &error);
        return;
    }
    text = sqlite3_str_new(sqlite3_context_db_handle(context));
    sqlite3_str_appendchar(text, 1, '[');
    for (size_t i = 0; i < dimension && sqlite3_str_errcode(text) == SQLITE_OK; i++) {
        char number[FAISS_NUMBER_BYTES];
        float element;

        memcpy(&element, (const char *)blob + i * sizeof element, sizeof element);
        if (i > 0) {
            sqlite3_str_append(text, ", ", 2);
        }
        sqlite3_str_append(text, number, (int)faiss_number_write((double)element, number));
    }
    sqlite3_str_appendchar(text, 1, ']');
    faiss_text_result(context, text);
}

/* ---- Registration -----------------------------------------------------------------------------*/

#define FAISS_PURE (SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS)

const struct function faiss_functions[] = {
    {"faiss_encode", 1, 1, FAISS_PURE, faiss_encode},
    {"faiss_decode", 1, 1, FAISS_PURE, faiss_decode},
    {"faiss_search", 4, 4, 0, faiss_search},
    {"faiss_search_with_scores", 4, 4, 0, faiss_search_with_scores},
    {NULL, 0, 0, 0, NULL},
};

int faiss_add_aggregates(sqlite3 *handle)
{
    int code = sqlite3_create_function_v2(handle, "faiss_agg", 4, SQLITE_UTF8 | FAISS_PURE, NULL,
                                          NULL, faiss_agg_step, faiss_agg_end, NULL);

    return code != SQLITE_OK
               ? code
               : sqlite3_create_function_v2(handle, "faiss_agg_with_scores", 4,
                                            SQLITE_UTF8 | FAISS_PURE, NULL, NULL, faiss_agg_step,
                                            faiss_agg_end_with_scores, NULL);
}
