/*
 * delta.c - exact search of the rows that were changed since the last sync. log.c knows their keys;
 * here are their vectors, which are kept from search to search while they are few.
 *
 * Rows inserted one after the other lie side by side in the table, and one pass over their range
 * costs a third of looking each up.
 *
 * Invariants
 *   1. A vector that is kept was read after the last change of its row that the log tells of. One
 *      that no log row tells of, by REPLACE or a rollback, is noticed: what is kept of rows is read
 *      once more before they are answered, what is kept of their absence when it may have ended.
 *   2. A row that a pass over a range does not find stays unread, and is looked up by its key.
 */
#include "catalog/search.h"

enum { DELTA_KEPT_BYTES = 64 << 20 }; /* so many bytes of vectors are kept */

/* Fewer rows are looked up one by one; so are rows among which others lie than were changed. */
enum { RANGE_LEAST_ROWS = 32, RANGE_MOST_SPREAD = 4 };

/* ---- what is kept ----------------------------------------------------------------------------*/

/* With unit length under cosine. */
static void delta_keep(struct delta *delta, size_t position, const struct vector_reader *reader,
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

/*
 * A row that REPLACE removed without telling the log may be back: after a rollback, or when a
 * backup was restored over the database, which gives its schema another number.
 */
static void delta_keep_absent(struct search *search, size_t position)
{
    struct host *host = search->db->host;
    search->index->delta.states.data[position] = DELTA_ABSENT;
    search->index->delta.unsure |= host->type->in_transaction(host);
}

static void delta_doubt_absent(struct search *search)
{
    struct delta *delta = &search->index->delta;
    int64_t version = search->index->schema_seen;
    bool doubt = delta->unsure || version != delta->schema_version;
    for (size_t i = 0; doubt && i < delta->keys.n; i++) {
        if (delta->states.data[i] == DELTA_ABSENT) {
            delta->states.data[i] = DELTA_UNREAD;
        }
    }
    delta->schema_version = version;
    delta->unsure = false;
}

/* Room for a vector a key. Vectors of another kind are forgotten: the first rows may tell anew. */
static annex_status delta_make_room(struct search *search, annex_error *error)
{
    const struct vector_reader *reader = &search->fetch.reader;
    struct delta *delta = &search->index->delta;
    size_t wanted = delta->keys.n * reader->bytes;
    if (delta->format != reader->format || delta->dimension != reader->dimension) {
        memset(delta->states.data, DELTA_UNREAD, delta->keys.n);
        delta->vectors.bytes = 0;
        delta->format = reader->format;
        delta->dimension = reader->dimension;
    }
    TRY(buffer_reserve(&search->db->env, &delta->vectors, wanted - delta->vectors.bytes, error));
    delta->vectors.bytes = wanted;
    return ANNEX_OK;
}

/* ---- reading rows that lie side by side ------------------------------------------------------*/

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

static void range_take(struct delta *delta, const struct source_rows *rows,
                       const annex_batch *batch)
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

static annex_status delta_read_range(struct search *search, annex_error *error)
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
        TRY_CLEANUP(search_poll(&search->db->env, error));
        TRY_CLEANUP(view.next(view.context, &batch, error));
        range_take(&index->delta, &rows, &batch);
    } while (batch.n > 0 && !budget_is_over(&search->budget));
cleanup:
    source_rows_close(&rows);
    arena_free(&scratch);
    return status;
}

/* Reads the vectors of keys that were changed since they were read last. */
static annex_status delta_read_vectors(struct search *search, annex_error *error)
{
    struct delta *delta = &search->index->delta;
    TRY(delta_make_room(search, error));
    delta_doubt_absent(search);
    TRY(delta_read_range(search, error));
    for (size_t i = 0; i < delta->keys.n; i++) {
        enum vector_state state = VECTOR_NONE;
        if (delta->states.data[i] != DELTA_UNREAD) {
            continue;
        }
        if (budget_is_over(&search->budget)) {
            break;
        }
        struct rowkey key = rowkey_set_at(&delta->keys, i);
        TRY(search_poll_at(&search->db->env, i, error));
        TRY(source_fetch_key(&search->fetch, &key, search->vector, &state, error));
        if (state == VECTOR_GOOD) {
            delta_keep(delta, i, &search->fetch.reader, search->vector);
        } else {
            delta_keep_absent(search, i);
        }
    }
    return ANNEX_OK;
}

/* ---- the search ------------------------------------------------------------------------------*/

static annex_status delta_offer(struct search *search, struct ranking *ranking, annex_error *error)
{
    const struct delta *delta = &search->index->delta;
    const uint64_t *allowed = search->filter.delta;
    size_t bytes = search->fetch.reader.bytes;
    for (size_t i = 0; i < delta->keys.n; i++) {
        struct rowkey key = rowkey_set_at(&delta->keys, i);
        const char *vector = delta->vectors.data + i * bytes;
        if (delta->states.data[i] != DELTA_PRESENT ||
            (allowed != NULL && !bitmap_get(allowed, i))) {
            continue;
        }
        if (!budget_take_row(&search->budget)) {
            break;
        }
        if (!search_skips(search, &key)) {
            TRY(ranking_add(ranking, measure_distance_to_unit(&search->measure, vector), &key,
                            error));
        }
    }
    return ANNEX_OK;
}

/* The best of what is kept, each read once more. *gone: one of them is not there any more. */
static annex_status delta_rank(struct search *search, bool *gone, annex_error *error)
{
    struct delta *delta = &search->index->delta;
    struct ranking found = search->ranking; /* the same limits, and nothing in it */
    found.items = (struct buffer){0};
    found.n = 0;
    *gone = false;
    annex_status status = delta_offer(search, &found, error);
    TRY_CLEANUP(status);
    const struct offer *items = (const struct offer *)found.items.data;
    for (size_t i = 0; i < found.n; i++) {
        enum vector_state state = VECTOR_NONE;
        size_t position = 0;
        TRY_CLEANUP(search_poll_at(&search->db->env, i, error));
        TRY_CLEANUP(source_fetch_key(&search->fetch, &items[i].key, search->vector, &state, error));
        if (state != VECTOR_GOOD && rowkey_set_find(&delta->keys, &items[i].key, &position)) {
            delta_keep_absent(search, position);
            *gone = true;
        }
    }
    for (size_t i = 0; !*gone && i < found.n; i++) {
        TRY_CLEANUP(ranking_add(&search->ranking, items[i].distance, &items[i].key, error));
    }
cleanup:
    ranking_free(&found);
    return status;
}

annex_status search_delta(struct search *search, annex_error *error)
{
    const struct rowkey_set *keys = &search->index->delta.keys;
    bool gone = true;
    if (keys->n == 0) {
        return ANNEX_OK;
    }
    if ((uint64_t)keys->n * search->fetch.reader.bytes > DELTA_KEPT_BYTES) {
        return search_keys(search, keys, search->filter.delta, error);
    }
    TRY(delta_read_vectors(search, error));
    while (gone) {
        TRY(delta_rank(search, &gone, error));
    }
    return ANNEX_OK;
}
