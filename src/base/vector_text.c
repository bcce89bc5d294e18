/*
 * vector_text.c - a vector as a JSON array of numbers, and back.
 *
 * The grammar is that of JSON (RFC 8259) for an array that holds numbers only, with white space
 * where JSON allows it. The whole text is checked, also past the capacity of the caller's vector.
 * One pass, no memory, no recursion.
 */
#include <math.h>
#include <stdio.h>

#include "base/base.h"
#include "base/decimal.h"

static const char *text_skip_space(const char *c, const char *end)
{
    while (c < end && (*c == ' ' || *c == '\t' || *c == '\n' || *c == '\r')) {
        c++;
    }
    return c;
}

/* How a character is shown in a message: itself, "end of text" or its code. */
static const char *text_describe(const char *c, const char *end, char shown[16])
{
    if (c == end) {
        return "the end of the text";
    }
    if (*c > ' ' && *c <= '~') {
        snprintf(shown, 16, "'%c'", *c);
    } else {
        snprintf(shown, 16, "byte 0x%02x", (unsigned char)*c);
    }
    return shown;
}

static annex_status text_refuse_element(const char *c, const char *end, size_t element,
                                        annex_error *error)
{
    char shown[16];

    return error_set(error, ANNEX_INVALID,
                     "element %zu of the vector is not a JSON number: it begins with %s", element,
                     text_describe(c, end, shown));
}

static annex_status text_refuse(const char *c, const char *end, const char *expected,
                                size_t elements, annex_error *error)
{
    char shown[16];

    return error_set(error, ANNEX_INVALID,
                     "the vector is not a JSON array of numbers: expected %s after %zu elements, "
                     "found %s",
                     expected, elements, text_describe(c, end, shown));
}

/* Reads the number of element `i` into *value and moves *position behind it. */
static annex_status text_take_element(const char **position, const char *end, size_t i,
                                      float *value, annex_error *error)
{
    size_t length = decimal_parse(*position, (size_t)(end - *position), value);

    if (length == 0) {
        return text_refuse_element(*position, end, i, error);
    }
    if (isinf(*value)) {
        return error_set(error, ANNEX_INVALID,
                         "element %zu of the vector, %.*s, is beyond the range of f32 (3.4e38)", i,
                         (int)MIN(length, 40), *position);
    }
    *position += length;
    return ANNEX_OK;
}

/* Reads "1, 2, 3]" - the opening bracket was there - and counts the elements. */
static annex_status text_take_elements(const char **position, const char *end, float *vector,
                                       size_t capacity, size_t *n, annex_error *error)
{
    const char *c = *position;
    size_t count = 0;

    for (;;) {
        float value;

        c = text_skip_space(c, end);
        TRY(text_take_element(&c, end, count, &value, error));
        if (count < capacity) {
            vector[count] = value;
        }
        count++;
        c = text_skip_space(c, end);
        if (c == end || (*c != ',' && *c != ']')) {
            return text_refuse(c, end, "',' or ']'", count, error);
        }
        if (*c++ == ']') {
            break;
        }
    }
    *position = c;
    *n = count;
    return ANNEX_OK;
}

annex_status annex_vector_parse(const char *text, size_t bytes, float *vector, size_t capacity,
                                size_t *n, annex_error *error)
{
    const char *end = text + bytes;
    const char *c = text_skip_space(text, end);
    size_t count = 0;

    *n = 0;
    if (c == end || *c != '[') {
        return text_refuse(c, end, "'['", 0, error);
    }
    c = text_skip_space(c + 1, end);
    if (c < end && *c == ']') {
        c++;
    } else {
        TRY(text_take_elements(&c, end, vector, capacity, &count, error));
    }
    c = text_skip_space(c, end);
    if (c < end) {
        return text_refuse(c, end, "the end of the text", count, error);
    }
    *n = count;
    if (count > capacity) {
        return error_set(error, ANNEX_FULL, "the vector has %zu elements; there is room for %zu",
                         count, capacity);
    }
    return ANNEX_OK;
}

/* The text that is written, which may be longer than the room for it. */
struct text_out {
    char *text;
    size_t bytes;
    size_t length;
};

static void text_put(struct text_out *out, const char *data, size_t bytes)
{
    if (out->length < out->bytes && bytes < out->bytes - out->length) {
        memcpy(out->text + out->length, data, bytes);
    }
    out->length += bytes;
}

size_t annex_vector_format(const float *vector, size_t n, char *text, size_t bytes)
{
    struct text_out out = {.text = text, .bytes = bytes};

    text_put(&out, "[", 1);
    for (size_t i = 0; i < n; i++) {
        char number[DECIMAL_MAX_BYTES];

        if (i > 0) {
            text_put(&out, ",", 1);
        }
        text_put(&out, number, decimal_format(vector[i], number));
    }
    text_put(&out, "]", 1);
    if (bytes > 0) {
        text[out.length < bytes ? out.length : 0] = '\0';
    }
    return out.length;
}
