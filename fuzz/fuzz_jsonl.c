/* fuzz_jsonl.c - the input is a line of JSON as annex import reads it, and a key alone. */
#include <math.h>
#include <string.h>

#include "support.h"
#include "transfer/jsonl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an item points to can be read, and a key can be written and read again. */
static void use(const struct item *item)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    FUZZ_REQUIRE(file != NULL);
    FUZZ_REQUIRE(item->n_key >= 1 && item->n_key <= TRANSFER_KEYS);
    bool fits = jsonl_put_key(file, item);
    fputc('\n', file);
    jsonl_put_value(file, &item->content);
    jsonl_put_value(file, &item->metadata);
    FUZZ_REQUIRE(item->content_hash.bytes == 0 || item->content_hash.bytes == 16);
    for (size_t i = 0; i < item->dimension; i++) {
        FUZZ_REQUIRE(isfinite(((const float *)item->vector)[i]));
    }
    fclose(file);
    if (fits) {
        struct jsonl line = {0};
        struct item again;
        annex_error error;
        size_t length = (size_t)(strchr(text, '\n') - text);
        FUZZ_REQUIRE(jsonl_parse_key(&line, text, length, &again, &error) == ANNEX_OK);
        FUZZ_REQUIRE(again.n_key == item->n_key);
        for (size_t i = 0; i < again.n_key; i++) {
            const annex_value *a = &again.key[i], *b = &item->key[i];
            FUZZ_REQUIRE(a->type == b->type && a->integer == b->integer && a->bytes == b->bytes);
            FUZZ_REQUIRE(a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
        }
        jsonl_free(&line);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jsonl line = {0};
    struct item item;
    annex_error error = {0};
    const char *text = (const char *)data;
    for (int i = 0; i < 2; i++) { /* the second line meets what the first one left */
        if (jsonl_parse(&line, text, size, &item, &error) == ANNEX_OK) {
            use(&item);
        } else {
            FUZZ_REQUIRE(error.message[0] != '\0');
        }
        if (jsonl_parse_key(&line, text, size, &item, &error) == ANNEX_OK) {
            use(&item);
        }
    }
    jsonl_free(&line);
    return 0;
}
