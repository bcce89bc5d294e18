/*
 * delta.c - reading many changed rows at once. Rows inserted one after the other lie side by side
 * in the table, and one pass over their range costs a third of looking each up.
 *
 * Invariant: what is not found here stays unread, and is looked up by its key.
 */
#include "catalog/search.h"

/* Fewer rows are looked up one by one; so are rows among which others lie than were changed. */
enum { RANGE_LEAST_ROWS = 32, RANGE_MOST_SPREAD = 4 };

/* The range of the integer keys that are unread. False: not worth a pass. */
static bool range_of_unread(const struct delta *delta, int64_t *first, int64_t *last)
{
    const int64_t *keys = (const int64_t *)(const void *)delta->keys.integers.data;
    uint64_t n = 0;
    *first = INT64_MAX;
    *last = INT64_MIN;
    for (size_t i = 0; i < delta->keys.n; i++) {
        if (delta->states.data[i] == DELTA_UNREAD) {
            *first = MIN(*first, keys[i]);
            *last = MAX(*last, keys[i]);
            n++;
        }
    }
    return n >= RANGE_LEAST_ROWS && (uint64_t)*last - (uint64_t)*first < RANGE_MOST_SPREAD * n;
}

static void range_take(struct delta *delta, struct source_rows *rows, const annex_batch *batch)
{
    size_t bytes = rows->reader.bytes;
    for (size_t i = 0; i < batch->n; i++) {
        struct rowkey key = {.integer = batch->keys[i]};
        size_t position = 0;
        if (rowkey_set_find(&delta->keys, &key, &position) &&
            delta->states.data[position] == DELTA_UNREAD) {
            delta_keep(delta, position, &rows->reader, (const char *)batch->vectors + i * bytes);
        }
    }
}

void delta_keep(struct delta *delta, size_t position, const struct vector_reader *reader,
                const void *vector)
{
    void *kept = delta->vectors.data + position * reader->bytes;
    if (reader->metric == ANNEX_COSINE) {
        codec_normalize(vector, kept, reader->dimension);
    } else {
        memcpy(kept, vector, reader->bytes);
    }
    delta->states.data[position] = DELTA_PRESENT;
}

annex_status delta_read_range(struct search *search, annex_error *error)
{
    struct catalog_index *index = search->index;
    struct arena scratch = {&search->db->env, NULL};
    struct source_rows rows = {.db = NULL};
    annex_batch batch;
    const char *column = NULL, *where = NULL;
    int64_t first = 0, last = 0;
    annex_status status = ANNEX_OK;
    if (!index->shape.integer || !range_of_unread(&index->delta, &first, &last)) {
        return ANNEX_OK;
    }
    TRY_CLEANUP(source_column(index, &scratch, index->definition.keys[0], &column, error));
    TRY_CLEANUP(arena_printf(&scratch, &where, error, "%s BETWEEN %lld AND %lld", column,
                             (long long)first, (long long)last));
    TRY_CLEANUP(source_rows_open(search->db, index, NULL, where, false, &rows, error));
    annex_rows view = source_rows_view(&rows);
    do {
        TRY_CLEANUP(view.next(view.context, &batch, error));
        range_take(&index->delta, &rows, &batch);
    } while (batch.n > 0);
cleanup:
    source_rows_close(&rows);
    arena_free(&scratch);
    return status;
}
