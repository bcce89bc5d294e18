/*
 * emit.h - writes JSON to a stream, with commas where they belong.
 *
 * Text that is not UTF-8 is written with U+FFFD for each wrong byte; numbers with the fewest digits
 * that read back to the same number; what is not finite is null.
 */
#ifndef ANNEX_CLI_EMIT_H
#define ANNEX_CLI_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EMIT_DEPTH 16

struct emitter {
    FILE *file;
    int depth;
    bool after_key;
    bool has_items[EMIT_DEPTH];
};

#define EMITTER_INIT(stream) \
    {                        \
        .file = (stream)     \
    }

void emit_begin(struct emitter *json, char bracket); /* '{' or '[' */
void emit_end(struct emitter *json, char bracket);   /* '}' or ']' */
void emit_key(struct emitter *json, const char *name);
void emit_text(struct emitter *json, const char *text);
void emit_bytes(struct emitter *json, const char *text, size_t bytes);
void emit_count(struct emitter *json, uint64_t value);
void emit_real(struct emitter *json, double value);
void emit_bool(struct emitter *json, bool value);
void emit_null(struct emitter *json);
/* Text that is JSON already. */
void emit_raw(struct emitter *json, const char *text);

/* Whether all of a text is UTF-8. */
bool emit_is_utf8(const char *text, size_t bytes);

/* The fewest digits, at least 6, that read back to the same number. */
void emit_format_real(double value, char *text, size_t bytes);

#endif
