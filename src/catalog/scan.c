/*
 * scan.c - exact search of rows of the table: all of them, or some by their keys.
 *
 * Invariant: a row that is offered was read from the table in the snapshot of the search.
 */
#include "catalog/search.h"

bool search_skips(const struct search *search, const struct rowkey *key)
{
    return search->has_skipped && rowkey_compare(key, &search->skipped) == 0;
}

static annex_status scan_offer(struct search *search, const struct rowkey *key, const void *vector,
                               annex_error *error)
{
    return search_skips(search, key)
               ? ANNEX_OK
               : ranking_add(&search->ranking, measure_distance(&search->measure, vector), key,
                             error);
}

annex_status search_table(struct search *search, annex_error *error)
{
    struct source_rows rows;
    annex_batch batch;
    const char *where = search->request->where != NULL ? search->request->where : "";
    TRY(source_rows_open(search->db, search->index, NULL, where, false, &rows, error));
    annex_rows view = source_rows_view(&rows);
    annex_status status = ANNEX_OK;
    do {
        TRY_CLEANUP(search_poll(&search->db->env, error));
        TRY_CLEANUP(view.next(view.context, &batch, error));
        for (size_t i = 0; i < batch.n && budget_take_row(&search->budget); i++) {
            struct rowkey key = rowkey_set_at(&rows.batch, i);
            const char *vector = (const char *)batch.vectors + i * rows.reader.bytes;
            TRY_CLEANUP(scan_offer(search, &key, vector, error));
        }
    } while (batch.n > 0 && search->budget.cut == BUDGET_GOOD);
    source_say_left_out(&rows);
cleanup:
    source_rows_close(&rows);
    return status;
}

annex_status search_keys(struct search *search, const struct rowkey_set *keys,
                         const uint64_t *allowed, annex_error *error)
{
    for (size_t i = 0; i < keys->n; i++) {
        struct rowkey key = rowkey_set_at(keys, i);
        enum vector_state state = VECTOR_NONE;
        if (allowed != NULL && !bitmap_get(allowed, i)) {
            continue;
        }
        if (!budget_take_row(&search->budget)) {
            break;
        }
        TRY(search_poll_at(&search->db->env, i, error));
        TRY(source_fetch_key(&search->fetch, &key, search->vector, &state, error));
        if (state == VECTOR_GOOD) {
            TRY(scan_offer(search, &key, search->vector, error));
        }
    }
    return ANNEX_OK;
}
