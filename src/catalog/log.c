/*
 * log.c - reading the change log: which keys were changed after the watermark, and by that which
 * rows of the segments may not be found.
 *
 * Invariants
 *   1. Numbers in the log have no gaps above the watermark. The row at the watermark is there and
 *      carries the nonce that the last sync saw; otherwise the index is stale.
 *   2. What was read stays valid as long as the last row that was read is there with its nonce:
 *      rows are only appended, and a rollback that takes away earlier ones takes away this one.
 */
#include "catalog/catalog.h"

static annex_status log_read_last(annex_db *db, const struct catalog_index *index, int64_t *seq,
                                  int64_t *nonce, bool *present, annex_error *error)
{
    struct host_statement *statement = NULL;
    *seq = *nonce = 0;
    *present = false;
    TRY(host_prepare(db->host, &statement, error,
                     "SELECT seq, nonce FROM %s ORDER BY seq DESC LIMIT 1", index->log_sql));
    annex_status status = db->host->type->step(statement, present, error);
    if (status == ANNEX_OK && *present) {
        *seq = host_integer(db->host, statement, 0);
        *nonce = host_integer(db->host, statement, 1);
    }
    db->host->type->finish(statement);
    return status;
}

annex_status log_begin(annex_db *db, struct catalog_index *index, annex_error *error)
{
    bool present = false;
    TRY(host_run(db->host, error, "INSERT INTO %s(nonce) VALUES (random())", index->log_sql));
    return log_read_last(db, index, &index->seq, &index->nonce, &present, error);
}

annex_status log_trim(annex_db *db, struct catalog_index *index, annex_error *error)
{
    return host_run(db->host, error, "DELETE FROM %s WHERE seq < %lld", index->log_sql,
                    (long long)index->seq);
}

static void log_say_stale(struct catalog_index *index)
{
    char call[CALL_TEXT_BYTES];
    error_set(&index->stale, ANNEX_OK,
              "the change log %s is not the one that the last sync left, so that changes of table "
              "%s may be missing in it; run %s",
              index->log, index->table, catalog_call(index, "annex_sync", call));
}

annex_status log_look(annex_db *db, struct catalog_index *index, annex_error *error)
{
    struct host_statement *statement = NULL;
    bool row = false;
    TRY(host_prepare(db->host, &statement, error, "SELECT nonce FROM %s WHERE seq = %lld",
                     index->log_sql, (long long)index->seq));
    annex_status status = db->host->type->step(statement, &row, error);
    if (status == ANNEX_OK && (!row || host_integer(db->host, statement, 0) != index->nonce)) {
        log_say_stale(index);
    }
    db->host->type->finish(statement);
    return status;
}

annex_status delta_count(annex_db *db, struct catalog_index *index, uint64_t *rows,
                         annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct host_statement *statement = NULL;
    const char *columns = "k1";
    bool row = false;
    annex_status status = ANNEX_OK;
    *rows = 0;
    for (size_t i = 1; i < index->shape.n_columns; i++) {
        TRY_CLEANUP(arena_printf(&scratch, &columns, error, "%s, k%zu", columns, i + 1));
    }
    TRY_CLEANUP(host_prepare(db->host, &statement, error,
                             "SELECT count(*) FROM (SELECT DISTINCT %s FROM %s WHERE seq > %lld)",
                             columns, index->log_sql, (long long)index->seq));
    TRY_CLEANUP(db->host->type->step(statement, &row, error));
    *rows = (uint64_t)host_integer(db->host, statement, 0);
cleanup:
    db->host->type->finish(statement);
    arena_free(&scratch);
    return status;
}

/* ---- the delta -------------------------------------------------------------------------------*/

void delta_clear(struct catalog_index *index)
{
    struct delta *delta = &index->delta;
    rowkey_set_clear(&delta->keys);
    delta->states.bytes = delta->vectors.bytes = 0;
    delta->last_seq = index->seq;
    delta->last_nonce = index->nonce;
    delta->loaded = false;
    for (size_t i = 0; i < index->n_parts; i++) {
        struct catalog_part *part = &index->parts[i];
        size_t words = bitmap_words(part->slots);
        for (size_t j = 0; j < words; j++) {
            part->allowed[j] = ~part->dead[j];
        }
        if (part->slots % 64 != 0) {
            part->allowed[words - 1] &= (UINT64_C(1) << part->slots % 64) - 1;
        }
    }
}

annex_status delta_add(annex_db *db, struct catalog_index *index, const struct rowkey *key,
                       annex_error *error)
{
    struct delta *delta = &index->delta;
    size_t position = 0;
    bool added = false;
    char unread = DELTA_UNREAD;
    TRY(buffer_reserve(&db->env, &delta->states, 1, error));
    TRY(rowkey_set_add(&db->env, &delta->keys, key, &position, &added, error));
    if (!added) {
        delta->states.data[position] = unread;
        return ANNEX_OK;
    }
    TRY(buffer_append(&db->env, &delta->states, &unread, 1, error));
    for (size_t i = 0; i < index->n_parts; i++) {
        uint32_t row = 0;
        if (part_find(&index->parts[i], key, &row)) {
            bitmap_clear(index->parts[i].allowed, row);
        }
    }
    return ANNEX_OK;
}

static annex_status delta_add_row(annex_db *db, struct catalog_index *index,
                                  struct host_statement *statement, struct buffer *buffer,
                                  annex_error *error)
{
    annex_value values[ANNEX_MAX_KEY_COLUMNS];
    struct rowkey key;
    for (size_t i = 0; i < index->shape.n_columns; i++) {
        db->host->type->column(statement, (int)i + 2, &values[i]);
    }
    buffer->bytes = 0;
    annex_status status = rowkey_encode(&db->env, index->shape, values, buffer, &key, error);
    if (status == ANNEX_INVALID) {
        return ANNEX_OK; /* a row without a complete key is in no segment and will be in none */
    }
    return status == ANNEX_OK ? delta_add(db, index, &key, error) : status;
}

/* Reads the log from where `delta` stands. *continuous: that row and all behind it are there. */
static annex_status delta_read(annex_db *db, struct catalog_index *index, bool *continuous,
                               annex_error *error)
{
    struct host *host = db->host;
    struct delta *delta = &index->delta;
    struct host_statement *statement = NULL;
    struct buffer buffer = {0};
    int64_t expected = delta->last_seq;
    bool row = true;
    *continuous = false;
    annex_status status =
        host_prepare(host, &statement, error, "SELECT * FROM %s WHERE seq >= %lld ORDER BY seq",
                     index->log_sql, (long long)expected);
    while (status == ANNEX_OK) {
        TRY_CLEANUP(host->type->step(statement, &row, error));
        if (!row) {
            break;
        }
        int64_t seq = host_integer(host, statement, 0);
        int64_t nonce = host_integer(host, statement, 1);
        bool first = !*continuous;
        if (seq != expected || (first && nonce != delta->last_nonce)) {
            *continuous = false;
            goto cleanup;
        }
        *continuous = true;
        expected = seq + 1;
        if (!first) {
            TRY_CLEANUP(delta_add_row(db, index, statement, &buffer, error));
        }
        delta->last_seq = seq;
        delta->last_nonce = nonce;
    }
cleanup:
    if (status != ANNEX_OK) {
        delta->loaded = false;
    }
    host->type->finish(statement);
    buffer_free(&db->env, &buffer);
    return status;
}

annex_status delta_refresh(annex_db *db, struct catalog_index *index, annex_error *error)
{
    struct delta *delta = &index->delta;
    int64_t seq = 0, nonce = 0;
    bool present = false, continuous = false;
    TRY(log_read_last(db, index, &seq, &nonce, &present, error));
    if (delta->loaded && present && seq == delta->last_seq && nonce == delta->last_nonce) {
        return ANNEX_OK;
    }
    if (delta->loaded) {
        TRY(delta_read(db, index, &continuous, error));
    }
    if (!continuous) {
        delta_clear(index);
        TRY(delta_read(db, index, &continuous, error));
    }
    delta->loaded = continuous;
    if (!continuous) {
        log_say_stale(index);
    }
    return ANNEX_OK;
}
