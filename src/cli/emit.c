/* emit.c - see emit.h. */
#include "emit.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Before each value: the comma that parts it from the one before. */
static void before_value(struct emitter *json)
{
    if (json->after_key) {
        json->after_key = false;
        return;
    }
    if (json->has_items[json->depth]) {
        fputc(',', json->file);
    }
    json->has_items[json->depth] = true;
}

void emit_begin(struct emitter *json, char bracket)
{
    before_value(json);
    fputc(bracket, json->file);
    assert(json->depth + 1 < EMIT_DEPTH);
    json->has_items[++json->depth] = false;
}

void emit_end(struct emitter *json, char bracket)
{
    assert(json->depth > 0);
    json->depth--;
    fputc(bracket, json->file);
}

void emit_key(struct emitter *json, const char *name)
{
    emit_text(json, name);
    fputc(':', json->file);
    json->after_key = true;
}

/* Length of the UTF-8 sequence at `text`, 0 when the bytes there are none. */
static size_t emit_utf8_length(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    if (bytes == 0) {
        return 0;
    }
    size_t n = s[0] < 0x80                    ? 1
               : s[0] >= 0xC2 && s[0] <= 0xDF ? 2
               : (s[0] & 0xF0) == 0xE0        ? 3
               : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4
                                              : 0;
    if (n > bytes) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    /* Overlong forms, surrogates and what lies beyond U+10FFFF. */
    bool wrong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
                 (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F);
    return wrong ? 0 : n;
}

bool emit_is_utf8(const char *text, size_t bytes)
{
    size_t i = 0, n;
    while (i < bytes && (n = emit_utf8_length(text + i, bytes - i)) > 0) {
        i += n;
    }
    return i == bytes;
}

void emit_bytes(struct emitter *json, const char *text, size_t bytes)
{
    before_value(json);
    fputc('"', json->file);
    for (size_t i = 0; i < bytes;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = emit_utf8_length(text + i, bytes - i);
        if (c == '"' || c == '\\') {
            fprintf(json->file, "\\%c", c);
        } else if (c < 0x20) {
            fprintf(json->file, "\\u%04x", c);
        } else if (n == 0) {
            fputs("\\ufffd", json->file);
        } else {
            fwrite(text + i, 1, n, json->file);
        }
        i += n > 0 ? n : 1;
    }
    fputc('"', json->file);
}

void emit_text(struct emitter *json, const char *text)
{
    emit_bytes(json, text, strlen(text));
}

void emit_count(struct emitter *json, uint64_t value)
{
    before_value(json);
    fprintf(json->file, "%" PRIu64, value);
}

void emit_format_real(double value, char *text, size_t bytes)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, bytes, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
}

void emit_real(struct emitter *json, double value)
{
    if (!isfinite(value)) {
        emit_null(json);
        return;
    }
    char text[40];
    emit_format_real(value, text, sizeof(text));
    before_value(json);
    fputs(text, json->file);
}

void emit_bool(struct emitter *json, bool value)
{
    before_value(json);
    fputs(value ? "true" : "false", json->file);
}

void emit_null(struct emitter *json)
{
    before_value(json);
    fputs("null", json->file);
}

void emit_raw(struct emitter *json, const char *text)
{
    before_value(json);
    for (; *text != '\0'; text++) {
        /* Line ends can only stand between tokens; they would break one object a line. */
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, json->file);
    }
}
