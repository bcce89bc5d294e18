/*
 * wrong.c - engines that do what they must not, for tests. Compiled once for each ENGINE_WRONG:
 * NO_ENTRY exports nothing, OLD and NEW have another ABI, REFUSES returns no table, SHORT has a
 * table that ends early. PLAY is whole, and does as engine_options say: {"play": "rows-beyond"}.
 */
#define NO_ENTRY 1
#define OLD 2
#define NEW 3
#define REFUSES 4
#define SHORT 5
#define PLAY 6

#define ANNEX_ENGINE_PLUGIN
#if ENGINE_WRONG == NO_ENTRY
#    define annex_engine_entry annex_engine_elsewhere
#endif
#include "annex-engine.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct annex_engine_index {
    uint32_t rows;
    char play[60];
};

static annex_status play_open(const annex_env *env, const char *path, const void *image,
                              uint64_t bytes, unsigned flags, annex_engine_index **out,
                              annex_error *error)
{
    (void)env, (void)path, (void)flags, (void)error;
    *out = calloc(1, sizeof **out);
    memcpy(*out, image, bytes < sizeof **out ? (size_t)bytes : sizeof **out);
    if (strcmp((*out)->play, "no-open") == 0) {
        free(*out);
        return ANNEX_DAMAGED; /* without a sentence, and with what is no handle */
    }
    return ANNEX_OK;
}

static annex_status play_build(const annex_env *env, const annex_build_options *options,
                               const char *json, const annex_rows *rows, const char *path,
                               annex_engine_index **out, annex_error *error)
{
    struct annex_engine_index made = {0};
    annex_batch batch = {0};
    (void)env, (void)options, (void)path;
    sscanf(json, "{\"play\":\"%59[a-z-]", made.play);
    if (strcmp(made.play, "no-build") == 0) {
        memset(error->message, 'x', sizeof error->message); /* without an end */
        return (annex_status)99;
    }
    do {
        annex_status status = rows->next(rows->context, &batch, error);
        if (status != ANNEX_OK) {
            return status;
        }
        made.rows += (uint32_t)batch.n;
    } while (batch.n > 0);
    made.rows -= strcmp(made.play, "row-lost") == 0 && made.rows > 0;
    *out = malloc(sizeof **out);
    **out = made;
    return ANNEX_OK;
}

static void play_close(annex_engine_index *index)
{
    free(index);
}

static void play_describe(const annex_engine_index *index, annex_engine_info *info)
{
    info->rows = index->rows;
}

static annex_status play_save(const annex_engine_index *index, annex_engine_write write,
                              void *context, annex_error *error)
{
    annex_status status = strcmp(index->play, "no-save") == 0 ? ANNEX_FULL : ANNEX_OK;
    if (status != ANNEX_OK) {
        snprintf(error->message, sizeof error->message, "it does not save");
        return status;
    }
    return write(context, index, sizeof *index, error);
}

static annex_status play_search(const annex_engine_index *index, const void *queries, size_t n,
                                size_t k, const annex_search_options *options, annex_hit *hits,
                                size_t *found, annex_error *error)
{
    const char *play = index->play;
    (void)queries, (void)n, (void)options;
    if (strcmp(play, "no-search") == 0) {
        snprintf(error->message, sizeof error->message, "it has no mind to");
        return ANNEX_UNSUPPORTED;
    }
    *found = strcmp(play, "nothing") == 0    ? 0
             : strcmp(play, "too-few") == 0  ? k / 2
             : strcmp(play, "too-many") == 0 ? k + 1
                                             : k;
    for (size_t i = 0; i < k && i < *found; i++) {
        hits[i].row = strcmp(play, "rows-beyond") == 0  ? index->rows + (uint32_t)i
                      : strcmp(play, "rows-twice") == 0 ? 0
                                                        : (uint32_t)i;
        hits[i].distance = -1; /* nobody believes it */
    }
    return ANNEX_OK;
}

const annex_engine *annex_engine_entry(uint32_t abi)
{
    static annex_engine wrong = {ANNEX_ENGINE_ABI, 0,           sizeof wrong, "wrong",
                                 play_build,       play_open,   play_close,   play_describe,
                                 play_save,        play_search, NULL,         NULL};
    (void)abi;
    wrong.abi = ENGINE_WRONG == OLD ? 0 : ENGINE_WRONG == NEW ? 2 : ANNEX_ENGINE_ABI;
    wrong.struct_bytes -= ENGINE_WRONG == SHORT ? 8 : 0;
    return ENGINE_WRONG == REFUSES ? NULL : &wrong;
}
