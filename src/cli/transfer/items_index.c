/* items_index.c - the items of an index file: its keys and the vectors that it stores. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "transfer/transfer.h"

struct index_source {
    struct items base;
    annex_index *index;
    annex_index_info info;
    void *vector;
};

static annex_status next(struct items *base, struct item *item, annex_error *error)
{
    struct index_source *source = (struct index_source *)base;
    annex_value *key = &item->key[0];
    *item = (struct item){0};
    if (base->done == source->info.slots) {
        return ANNEX_OK;
    }
    uint32_t row = (uint32_t)base->done++;
    annex_status status;
    if (source->info.key_kind == ANNEX_KEY_INTEGER) {
        key->type = ANNEX_INTEGER;
        status = annex_index_key(source->index, row, &key->integer, error);
    } else {
        status = annex_index_key_bytes(source->index, row, &key->data, &key->bytes, error);
        bool text = status == ANNEX_OK && emit_is_utf8(key->data, key->bytes);
        key->type = text ? ANNEX_TEXT : ANNEX_BLOB;
    }
    if (status == ANNEX_OK) {
        status = annex_index_vector(source->index, row, source->vector, error);
    }
    item->n_key = 1;
    item->vector = source->vector;
    item->dimension = source->info.dimension;
    return status;
}

static void close_index(struct items *base)
{
    struct index_source *source = (struct index_source *)base;
    annex_index_close(source->index);
    free(source->vector);
    free(source);
}

annex_status items_open_index(struct session *session, struct items **opened, annex_error *error)
{
    struct index_source *source = session_memory(1, sizeof(*source));
    struct items *base = &source->base;
    *base = (struct items){.next = next, .close = close_index};
    base->name = session->arguments.operands[0];
    annex_status status = target_open_index(session, 0, &source->index, error);
    if (status == ANNEX_OK) {
        annex_index_describe(source->index, &source->info);
        if (!source->info.has_raw) {
            status = session_error(error, ANNEX_UNSUPPORTED,
                                   "%s stores no vectors, only codes that stand near them; export "
                                   "the rows it was built from, or build it with --raw keep",
                                   base->name);
        }
    }
    if (status != ANNEX_OK) {
        close_index(base);
        return status;
    }
    base->total = source->info.slots;
    base->bits = source->info.metric == ANNEX_HAMMING || source->info.metric == ANNEX_JACCARD;
    base->integer_keys = source->info.key_kind == ANNEX_KEY_INTEGER;
    source->vector =
        session_memory(annex_vector_bytes(source->info.metric, source->info.dimension), 1);
    *opened = base;
    return ANNEX_OK;
}
