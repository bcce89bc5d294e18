/*
 * filter.c - pre-filters: which rows may be found, from a list of keys and a condition.
 *
 * The table answers which rows those are, so that affinities, collations and conditions mean what
 * they mean everywhere else. A few rows are kept as keys and read from the table afterwards; many
 * become bitmaps over the rows of the segments and over the delta.
 */
#include "catalog/search.h"

static bool filter_has_where(const annex_db_request *request)
{
    return request->where != NULL && request->where[0] != '\0';
}

/* ---- collecting ------------------------------------------------------------------------------*/

static void filter_mark(struct catalog_index *index, struct filter *filter,
                        const struct rowkey *key)
{
    size_t position = 0;
    if (rowkey_set_find(&index->delta.keys, key, &position)) {
        bitmap_set(filter->delta, position);
        return;
    }
    for (size_t i = 0; i < index->n_parts; i++) {
        uint32_t row = 0;
        if (part_find(&index->parts[i], key, &row) && bitmap_get(index->parts[i].allowed, row)) {
            bitmap_set(filter->allowed[i], row);
            return;
        }
    }
}

/* From keys to bitmaps. */
static annex_status filter_widen(annex_db *db, struct catalog_index *index, struct filter *filter,
                                 annex_error *error)
{
    TRY(memory_new(&db->env, index->n_parts, sizeof *filter->allowed, &filter->allowed, error));
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY(memory_new(&db->env, bitmap_words(index->parts[i].slots), sizeof(uint64_t),
                       &filter->allowed[i], error));
    }
    filter->delta_words = bitmap_words(index->delta.keys.n);
    TRY(memory_new(&db->env, filter->delta_words, sizeof *filter->delta, &filter->delta, error));
    for (size_t i = 0; i < filter->keys.n; i++) {
        struct rowkey key = rowkey_set_at(&filter->keys, i);
        filter_mark(index, filter, &key);
    }
    filter->few = false;
    return ANNEX_OK;
}

static annex_status filter_add(annex_db *db, struct catalog_index *index, struct filter *filter,
                               const struct rowkey *key, bool table_only, annex_error *error)
{
    size_t position = 0;
    bool added = false;
    if (filter->few && filter->keys.n == FILTER_SCAN_ROWS && !table_only) {
        TRY(filter_widen(db, index, filter, error));
    }
    if (!filter->few) {
        filter_mark(index, filter, key);
        return ANNEX_OK;
    }
    return rowkey_set_add(&db->env, &filter->keys, key, &position, &added, error);
}

/* Adds the keys that a statement yields. */
static annex_status filter_collect(annex_db *db, struct catalog_index *index, struct filter *filter,
                                   struct host_statement *statement, bool table_only,
                                   struct budget *budget, annex_error *error)
{
    struct buffer buffer = {0};
    annex_value values[ANNEX_MAX_KEY_COLUMNS];
    bool row = true;
    annex_status status = ANNEX_OK;
    for (size_t n_read = 0; !budget_is_over(budget); n_read++) {
        struct rowkey key;
        TRY_CLEANUP(search_poll_at(&db->env, n_read, error));
        TRY_CLEANUP(db->host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        for (size_t i = 0; i < index->shape.n_columns; i++) {
            db->host->type->column(statement, (int)i, &values[i]);
        }
        buffer.bytes = 0;
        status = rowkey_encode(&db->env, index->shape, values, &buffer, &key, error);
        if (status == ANNEX_INVALID) {
            continue; /* a row with NULL in its key is not in the index */
        }
        TRY_CLEANUP(status);
        TRY_CLEANUP(filter_add(db, index, filter, &key, table_only, error));
    }
    status = ANNEX_OK;
cleanup:
    db->host->type->reset(statement);
    buffer_free(&db->env, &buffer);
    return status;
}

/* ---- what the table says ---------------------------------------------------------------------*/

/* Prepared so that a mistake in the condition is reported as the caller's. */
static annex_status filter_prepare(annex_db *db, struct catalog_index *index,
                                   const annex_db_request *request,
                                   struct host_statement **statement, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char *columns = NULL, *first = NULL, *where = NULL;
    annex_error why = {ANNEX_OK, ""};
    annex_status status = source_key_list(index, &scratch, &columns, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(source_column(index, &scratch, index->definition.keys[0], &first, error));
    TRY_CLEANUP(source_condition(index, &scratch, &where, error));
    status =
        host_prepare(db->host, statement, &why, "SELECT %s FROM %s WHERE (%s\n) AND %s AND (%s%s)",
                     columns, index->table_sql, filter_has_where(request) ? request->where : "1",
                     where, request->has_keys ? first : "1", request->has_keys ? " = ?1" : "");
    if (status != ANNEX_OK) {
        status = error_set(error, status == ANNEX_HOST ? ANNEX_INVALID : status,
                           "the condition of the search does not work: %s", why.message);
    }
cleanup:
    arena_free(&scratch);
    return status;
}

/* Integers are their own keys: whether the row exists is found out later, when it is read. */
static bool filter_is_direct(const struct catalog_index *index, const annex_db_request *request,
                             const annex_value *value)
{
    return index->shape.integer && !filter_has_where(request) && value->type == ANNEX_INTEGER;
}

static annex_status filter_keys(annex_db *db, struct catalog_index *index,
                                const annex_db_request *request, bool table_only,
                                struct budget *budget, struct filter *filter, annex_error *error)
{
    struct host_statement *statement = NULL;
    annex_status status = filter_prepare(db, index, request, &statement, error);
    for (size_t i = 0; status == ANNEX_OK && i < request->n_keys; i++) {
        const annex_value *value = &request->keys[i];
        if (i % SEARCH_POLL_STEPS == SEARCH_POLL_STEPS - 1) {
            TRY_CLEANUP(search_poll(&db->env, error));
            if (budget_is_over(budget)) {
                break;
            }
        }
        if (filter_is_direct(index, request, value)) {
            struct rowkey key = {.integer = value->integer};
            TRY_CLEANUP(filter_add(db, index, filter, &key, table_only, error));
        } else if (value->type != ANNEX_NULL) {
            TRY_CLEANUP(db->host->type->bind(statement, 1, value, error));
            TRY_CLEANUP(filter_collect(db, index, filter, statement, table_only, budget, error));
        }
    }
cleanup:
    db->host->type->finish(statement);
    return status;
}

annex_status filter_resolve(annex_db *db, struct catalog_index *index,
                            const annex_db_request *request, bool table_only, struct budget *budget,
                            struct filter *filter, annex_error *error)
{
    struct host_statement *statement = NULL;
    *filter = (struct filter){.keys = {.integer = index->shape.integer}};
    filter->active = request->has_keys || filter_has_where(request);
    filter->few = filter->active;
    if (!filter->active) {
        return ANNEX_OK;
    }
    if (request->has_keys) {
        return filter_keys(db, index, request, table_only, budget, filter, error);
    }
    if (table_only) {
        return ANNEX_OK; /* the scan of the table applies the condition itself */
    }
    TRY(filter_prepare(db, index, request, &statement, error));
    annex_status status = filter_collect(db, index, filter, statement, table_only, budget, error);
    db->host->type->finish(statement);
    return status;
}

void filter_free(annex_db *db, const struct catalog_index *index, struct filter *filter)
{
    rowkey_set_free(&db->env, &filter->keys);
    for (size_t i = 0; filter->allowed != NULL && i < index->n_parts; i++) {
        memory_free(&db->env, filter->allowed[i], bitmap_words(index->parts[i].slots),
                    sizeof(uint64_t));
    }
    memory_free(&db->env, filter->allowed, index->n_parts, sizeof *filter->allowed);
    memory_free(&db->env, filter->delta, filter->delta_words, sizeof *filter->delta);
    *filter = (struct filter){.active = false};
}
