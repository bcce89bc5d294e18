/*
 * scan.c - exact search of rows of the table: all of them, some by their keys, or those that were
 * changed since the last sync.
 *
 * Invariant: a row that is offered was read from the table in the snapshot of the search.
 */
#include "catalog/search.h"

/* Vectors of changed rows are kept between searches up to this size. */
enum { DELTA_KEPT_BYTES = 64 << 20 };

static bool scan_is_skipped(const struct search *search, const struct rowkey *key)
{
    return search->has_skipped && rowkey_compare(key, &search->skipped) == 0;
}

static annex_status scan_offer(struct search *search, const struct rowkey *key, const void *vector,
                               annex_error *error)
{
    return scan_is_skipped(search, key)
               ? ANNEX_OK
               : ranking_add(&search->ranking, measure_distance(&search->measure, vector), key,
                             error);
}

annex_status scan_table(struct search *search, annex_error *error)
{
    struct source_rows rows;
    annex_batch batch;
    const char *where = search->request->where != NULL ? search->request->where : "";
    TRY(source_rows_open(search->db, search->index, NULL, where, false, &rows, error));
    annex_rows view = source_rows_view(&rows);
    annex_status status = ANNEX_OK;
    do {
        TRY_CLEANUP(view.next(view.context, &batch, error));
        for (size_t i = 0; i < batch.n && budget_take_row(&search->budget); i++) {
            struct rowkey key = rowkey_set_at(&rows.batch, i);
            const char *vector = (const char *)batch.vectors + i * rows.reader.bytes;
            TRY_CLEANUP(scan_offer(search, &key, vector, error));
        }
    } while (batch.n > 0 && search->budget.cut == BUDGET_GOOD);
    if (rows.left_out > 0) {
        log_message(&search->db->env, ANNEX_LOG_WARNING, "%s; %llu rows were left out",
                    rows.first_left_out, (unsigned long long)rows.left_out);
    }
cleanup:
    source_rows_close(&rows);
    return status;
}

annex_status scan_keys(struct search *search, const struct rowkey_set *keys, annex_error *error)
{
    for (size_t i = 0; i < keys->n && budget_take_row(&search->budget); i++) {
        struct rowkey key = rowkey_set_at(keys, i);
        enum vector_state state = VECTOR_NONE;
        TRY(source_fetch_key(&search->fetch, &key, search->vector, &state, error));
        if (state == VECTOR_GOOD) {
            TRY(scan_offer(search, &key, search->vector, error));
        }
    }
    return ANNEX_OK;
}

/* ---- the delta -------------------------------------------------------------------------------*/

static bool delta_may_be_found(const struct search *search, size_t position)
{
    return search->filter.delta == NULL || bitmap_get(search->filter.delta, position);
}

/*
 * A row that REPLACE removed without telling the log may be back: after a rollback, or when a
 * backup was restored over the database, which gives its schema another number.
 */
static void delta_say_absent(struct search *search, size_t position)
{
    struct host *host = search->db->host;
    search->index->delta.states.data[position] = DELTA_ABSENT;
    search->index->delta.unsure |= host->type->in_transaction(host);
}

static annex_status delta_doubt_absent(struct search *search, annex_error *error)
{
    struct host *host = search->db->host;
    struct delta *delta = &search->index->delta;
    int64_t version = 0;
    TRY(host->type->schema_version(host, search->index->schema, &version, error));
    bool doubt = delta->unsure || version != delta->schema_version;
    for (size_t i = 0; doubt && i < delta->keys.n; i++) {
        if (delta->states.data[i] == DELTA_ABSENT) {
            delta->states.data[i] = DELTA_UNREAD;
        }
    }
    delta->schema_version = version;
    delta->unsure = false;
    return ANNEX_OK;
}

/* Reads the vectors of keys that were changed since they were read last. */
static annex_status delta_read_vectors(struct search *search, annex_error *error)
{
    struct delta *delta = &search->index->delta;
    size_t bytes = search->fetch.reader.bytes;
    size_t wanted = delta->keys.n * bytes;
    TRY(buffer_reserve(&search->db->env, &delta->vectors, wanted - delta->vectors.bytes, error));
    delta->vectors.bytes = wanted;
    TRY(delta_doubt_absent(search, error));
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
        TRY(source_fetch_key(&search->fetch, &key, search->vector, &state, error));
        if (state == VECTOR_GOOD) {
            delta_keep(delta, i, &search->fetch.reader, search->vector);
        } else {
            delta_say_absent(search, i);
        }
    }
    return ANNEX_OK;
}

/*
 * The best of the delta, from what is kept of it. A REPLACE may have removed a row without telling
 * the log; so the best are read once more, and *gone says that one of them is not there any more.
 */
static annex_status delta_rank(struct search *search, bool *gone, annex_error *error)
{
    struct delta *delta = &search->index->delta;
    size_t bytes = search->fetch.reader.bytes;
    struct ranking found = search->ranking; /* the same limits, and nothing in it */
    found.items = (struct buffer){0};
    found.n = 0;
    annex_status status = ANNEX_OK;
    *gone = false;
    for (size_t i = 0; i < delta->keys.n; i++) {
        if (delta->states.data[i] == DELTA_PRESENT && delta_may_be_found(search, i)) {
            struct rowkey key = rowkey_set_at(&delta->keys, i);
            const char *vector = delta->vectors.data + i * bytes;
            if (!budget_take_row(&search->budget)) {
                break;
            }
            if (!scan_is_skipped(search, &key)) {
                TRY_CLEANUP(ranking_add(&found, measure_distance_to_unit(&search->measure, vector),
                                        &key, error));
            }
        }
    }
    const struct offer *items = (const struct offer *)found.items.data;
    for (size_t i = 0; i < found.n; i++) {
        enum vector_state state = VECTOR_NONE;
        size_t position = 0;
        TRY_CLEANUP(source_fetch_key(&search->fetch, &items[i].key, search->vector, &state, error));
        if (state != VECTOR_GOOD && rowkey_set_find(&delta->keys, &items[i].key, &position)) {
            delta_say_absent(search, position);
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

annex_status scan_delta(struct search *search, annex_error *error)
{
    struct delta *delta = &search->index->delta;
    uint64_t bytes = (uint64_t)delta->keys.n * search->fetch.reader.bytes;
    bool gone = true;
    if (delta->keys.n == 0) {
        return ANNEX_OK;
    }
    if (bytes <= DELTA_KEPT_BYTES) {
        TRY(delta_read_vectors(search, error));
        while (gone) {
            TRY(delta_rank(search, &gone, error));
        }
        return ANNEX_OK;
    }
    for (size_t i = 0; i < delta->keys.n; i++) {
        struct rowkey key = rowkey_set_at(&delta->keys, i);
        enum vector_state state = VECTOR_NONE;
        if (!delta_may_be_found(search, i)) {
            continue;
        }
        if (!budget_take_row(&search->budget)) {
            break;
        }
        TRY(source_fetch_key(&search->fetch, &key, search->vector, &state, error));
        if (state == VECTOR_GOOD) {
            TRY(scan_offer(search, &key, search->vector, error));
        }
    }
    return ANNEX_OK;
}
