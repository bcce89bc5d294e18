/*
 * jsonl.h - an item as a line of JSON.
 *
 *   {"id": "post-7", "embedding": [0.25, -1.5], "content": "...", "metadata": {"year": 2024}}
 *
 * "id" is a text, a number, or an array of them for a key of several columns; the other members may
 * be missing. What JSON has no form for is an object: {"blob": "00ff"}, {"text": "ff"} for a text
 * that is not UTF-8. "content_hash" is that of llm, in hexadecimal digits.
 *
 * Does not: keep the white space and the escapes of metadata, which comes out as Python prints it.
 */
#ifndef ANNEX_CLI_JSONL_H
#define ANNEX_CLI_JSONL_H

#include <jansson.h>

#include "transfer/transfer.h"

/* What the item of the last line points to. Begins as zero. */
struct jsonl {
    json_t *id, *content;
    char *bytes; /* decoded from digits */
    size_t bytes_capacity, bytes_used;
    float *vector;
    size_t vector_capacity;
    char *metadata;
};

/* ANNEX_INVALID says what is wrong with the line, but not which line. */
annex_status jsonl_parse(struct jsonl *line, const char *text, size_t bytes, struct item *item,
                         annex_error *error);
/* The same for a line that is a key. */
annex_status jsonl_parse_key(struct jsonl *line, const char *text, size_t bytes, struct item *item,
                             annex_error *error);
void jsonl_free(struct jsonl *line);

/* False when there is no form for the value: infinite. */
bool jsonl_put_value(FILE *file, const annex_value *value);
bool jsonl_put_key(FILE *file, const struct item *item);
/* Whether a text is JSON. */
bool jsonl_is_json(const char *text, size_t bytes);

#endif
