/*
 * collection.c - a collection of llm as a source: the rows of the table embeddings whose
 * collection_id is the number that its name has in the table collections.
 *
 * llm gives the number of a deleted collection to the next one, so the name counts, and the number
 * is looked up in the snapshot of every answer. When it is another one than at the last sync, the
 * index is stale; until it is synced, the rows of today are scanned.
 *
 * Invariants
 *   1. Rows of two models are never compared: a collection that was made anew under another model
 *      is refused.
 *   2. No row of another collection is answered, nor noted in the log.
 */
#include "catalog/catalog.h"

#include <strings.h>

annex_status collection_find(annex_db *db, const char *schema, const char *name,
                             struct arena *arena, int64_t *id, const char **model,
                             annex_error *error)
{
    struct host_statement *statement = NULL;
    const char *quoted = NULL;
    bool row = false, present = false;
    *id = 0;
    *model = "";
    TRY(host_quote(arena, schema, &quoted, error));
    annex_status status =
        host_prepare(db->host, &statement, error,
                     "SELECT id, model FROM %s.collections WHERE name = ?1", quoted);
    TRY_CLEANUP(status);
    TRY_CLEANUP(host_bind_text(db->host, statement, 1, name, error));
    TRY_CLEANUP(db->host->type->step(statement, &row, error));
    if (row) {
        *id = host_integer(db->host, statement, 0);
        status = host_text(db->host, statement, 1, arena, model, error);
    }
cleanup:
    db->host->type->finish(statement);
    if (status == ANNEX_HOST) { /* without the table there is no collection */
        annex_status looked =
            db->host->type->has_table(db->host, schema, "collections", &present, NULL);
        status = looked == ANNEX_OK && !present ? ANNEX_OK : status;
    }
    return status;
}

annex_status collection_define(annex_db *db, struct catalog_index *index, annex_error *error)
{
    struct definition *definition = &index->definition;
    const char *model = NULL;
    if (definition->n_keys != 2 || strcasecmp(definition->keys[0], "collection_id") != 0 ||
        strcasecmp(definition->keys[1], "id") != 0) {
        return error_set(error, ANNEX_INVALID,
                         "the table %s is not one of llm, whose key is (collection_id, id); leave "
                         "out \"llm_collection\", or name the table embeddings",
                         definition->table);
    }
    TRY(collection_find(db, index->schema, definition->collection, &index->arena,
                        &definition->collection_id, &model, error));
    if (definition->collection_id == 0) {
        return error_set(error, ANNEX_NOT_FOUND,
                         "there is no collection %s; llm collections lists those there are",
                         definition->collection);
    }
    if (definition->model[0] != '\0' && strcmp(definition->model, model) != 0) {
        return error_set(error, ANNEX_INVALID,
                         "collection %s was embedded with the model %s, not with %s; leave out the "
                         "model, or embed the collection with %s first",
                         definition->collection, model, definition->model, definition->model);
    }
    definition->model = model;
    index->collection_now = definition->collection_id;
    return ANNEX_OK;
}

annex_status collection_inspect(annex_db *db, struct catalog_index *index, bool *moved,
                                annex_error *error)
{
    const struct definition *definition = &index->definition;
    struct arena scratch = {&db->env, NULL};
    const char *model = NULL;
    char call[CALL_TEXT_BYTES];
    int64_t id = 0;
    *moved = false;
    if (definition->collection[0] == '\0') {
        return ANNEX_OK;
    }
    annex_status status =
        collection_find(db, index->schema, definition->collection, &scratch, &id, &model, error);
    if (status == ANNEX_OK && id != 0 && strcmp(model, definition->model) != 0) {
        status = error_set(error, ANNEX_INVALID,
                           "collection %s is embedded with the model %s now, and index %s holds "
                           "vectors of %s, which cannot be compared with them; run %s and create "
                           "it again",
                           definition->collection, model, index->name, definition->model,
                           catalog_call(index, "annex_drop", call));
    }
    if (status == ANNEX_OK && id != index->collection_now) {
        index->collection_now = id;
        index->fingerprint = 0; /* the triggers have to be others */
    }
    *moved = status == ANNEX_OK && id != definition->collection_id;
    arena_free(&scratch);
    return status;
}
