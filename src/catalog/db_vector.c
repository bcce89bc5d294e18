/*
 * db_vector.c - the vector that a row of the table has now.
 */
#include "catalog/catalog.h"

static annex_status vector_fetch(struct source_fetch *fetch, annex_db *db,
                                 struct catalog_index *index, const annex_value *key, void **vector,
                                 size_t *bytes, annex_error *error)
{
    enum vector_state state = VECTOR_NONE;
    char text[KEY_TEXT_BYTES];
    if (definition_is_complete(&index->definition)) {
        TRY(source_fetch_open(db, index, fetch, error));
        *bytes = fetch->reader.bytes;
        TRY(memory_new(&db->env, *bytes, 1, vector, error));
        TRY(source_fetch_row(fetch, key, *vector, &state, NULL, NULL, error));
    }
    return state == VECTOR_GOOD
               ? ANNEX_OK
               : error_set(error, ANNEX_NOT_FOUND, "table %s has no row %s with a vector",
                           index->table, rowkey_print(key, index->shape.n_columns, text));
}

annex_status annex_db_vector(annex_db *db, const char *name, const annex_value *key,
                             size_t key_columns, void **vector, size_t *bytes, annex_metric *metric,
                             uint32_t *dimension, annex_error *error)
{
    struct source_fetch fetch = {.db = NULL};
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    *vector = NULL;
    *bytes = 0;
    *metric = 0;
    *dimension = 0;
    TRY(sources_open(db, name, &index, &hold, error));
    struct definition *definition = &index->definition;
    struct definition before = *definition;
    annex_status status = sources_refuse(index, "reading a vector", error);
    TRY_CLEANUP(status);
    if (key_columns != index->shape.n_columns) {
        TRY_CLEANUP(error_set(error, ANNEX_INVALID, "the key of index %s has %zu columns, not %zu",
                              name, index->shape.n_columns, key_columns));
    }
    TRY_CLEANUP(catalog_inspect(db, index, error));
    if (!definition_is_complete(definition)) {
        TRY_CLEANUP(source_learn(db, index, error));
    }
    TRY_CLEANUP(vector_fetch(&fetch, db, index, key, vector, bytes, error));
    *metric = definition->metric;
    *dimension = definition->dimension;
cleanup:
    if (status != ANNEX_OK) {
        memory_free(&db->env, *vector, *bytes, 1);
        *vector = NULL;
        *bytes = 0;
    }
    definition->format = before.format;
    definition->dimension = before.dimension;
    source_fetch_close(&fetch);
    db->host->type->finish(hold);
    return status;
}
