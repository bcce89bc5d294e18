/*
 * fuzz_python_json.c - the input is JSON, or else a text. JSON that is written again as Python has
 * it must be the same value, in ASCII and on one line, and stay as it is when it is written once
 * more. A text as a JSON string must read back; its indented lines must hold it.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "python_json.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { JSON_FLAGS = JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL };

struct written {
    char *text;
    size_t bytes;
};

static struct written write_with(void (*put)(FILE *, const char *, size_t), const char *text,
                                 size_t bytes)
{
    struct written out = {NULL, 0};
    FILE *file = open_memstream(&out.text, &out.bytes);

    FUZZ_REQUIRE(file != NULL);
    put(file, text, bytes);
    FUZZ_REQUIRE(fclose(file) == 0);
    return out;
}

static void require_ascii(const struct written *out)
{
    for (size_t i = 0; i < out->bytes; i++) {
        FUZZ_REQUIRE(out->text[i] >= ' ' && out->text[i] <= '~');
    }
}

static void fuzz_value(json_t *value, const char *text, size_t bytes)
{
    struct written out = write_with(python_json, text, bytes);
    struct written again = write_with(python_json, out.text, out.bytes);
    json_t *read = json_loadb(out.text, out.bytes, JSON_FLAGS, NULL);

    require_ascii(&out);
    FUZZ_REQUIRE(read != NULL && json_equal(read, value));
    FUZZ_REQUIRE(again.bytes == out.bytes && memcmp(again.text, out.text, out.bytes) == 0);
    json_decref(read);
    free(out.text);
    free(again.text);
}

static void fuzz_text(const char *text, size_t bytes)
{
    struct written out = write_with(python_text, text, bytes);
    struct written lines = write_with(python_indent, text, bytes);
    json_t *same = json_stringn(text, bytes); /* NULL when it is not UTF-8 */
    json_t *read = json_loadb(out.text, out.bytes, JSON_FLAGS, NULL);

    require_ascii(&out);
    FUZZ_REQUIRE(read != NULL);
    FUZZ_REQUIRE(same == NULL || json_equal(read, same));
    FUZZ_REQUIRE(lines.bytes >= bytes && lines.bytes <= 3 * bytes);
    json_decref(same);
    json_decref(read);
    free(out.text);
    free(lines.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = size > 0 ? (const char *)data : "";
    json_t *value = json_loadb(text, size, JSON_FLAGS, NULL);

    if (value != NULL && memchr(text, 0, size) == NULL) { /* jansson takes one for the end */
        fuzz_value(value, text, size);
    }
    json_decref(value);
    fuzz_text(text, size);
    return 0;
}
