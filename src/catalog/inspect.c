/*
 * inspect.c - whether table, triggers, log and catalog tables are as the last sync left them.
 *
 * Invariants
 *   1. Names that ALTER TABLE changed are followed: SQLite rewrites them in the triggers, so that
 *      the triggers tell what table and columns are called in this snapshot.
 *   2. What cannot be trusted makes the index stale with one sentence, which ends in what to run.
 *      A sync mends it unless beyond_sync is set.
 *   3. The table is described again when the number of the schema is another one than when it was
 *      found to fit. The number is kept outside of transactions only: after a rollback it comes
 *      again for another schema.
 * Does not: read rows, but for the samples of catalog_outgrown.
 */
#include "catalog/catalog.h"

#include <stdio.h>

static const char *const inspect_beside[] = {"annex_part", "annex_segment"};

struct host_log catalog_log(const struct catalog_index *index)
{
    return (struct host_log){
        .schema = index->schema,
        .log = index->log,
        .table = index->table,
        .keys = index->definition.keys,
        .n_keys = index->definition.n_keys,
        .watched = index->definition.watched,
        .n_watched = index->definition.n_watched,
        .scoped = index->definition.collection[0] != '\0',
        .scope = index->collection_now,
        .beside = inspect_beside,
        .n_beside = ARRAY_LENGTH(inspect_beside),
        .fingerprint = index->fingerprint,
    };
}

static annex_status say_unfit(const struct catalog_index *index, const char *what,
                              annex_error *error)
{
    char call[CALL_TEXT_BYTES];
    return error_set(error, ANNEX_NOT_FOUND,
                     "index %s does not fit its table any more: %s; run %s and create it again",
                     index->name, what, catalog_call(index, "annex_drop", call));
}

static void say_stale(struct catalog_index *index, const char *what, const char *call)
{
    annex_error sentence;
    error_set(&sentence, ANNEX_OK, "%s; run %s", what, call);
    index->stale = sentence;
}

/* ---- names that were changed ------------------------------------------------------------------*/

struct renamed {
    const char **from, **to; /* each name once */
    size_t n;
};

static void renamed_add(struct renamed *renamed, const char *from, const char *to)
{
    for (size_t i = 0; i < renamed->n; i++) {
        if (strcmp(renamed->from[i], from) == 0) {
            return;
        }
    }
    renamed->from[renamed->n] = from;
    renamed->to[renamed->n++] = to;
}

/* The host rewrites the condition. */
static annex_status inspect_follow_condition(annex_db *db, struct catalog_index *index,
                                             const struct renamed *renamed, annex_error *error)
{
    const char *where = NULL;
    annex_error why = {ANNEX_OK, ""};
    annex_status status =
        db->host->type->condition_rename(db->host, index->definition.where, renamed->from,
                                         renamed->to, renamed->n, &index->arena, &where, &why);
    if (status == ANNEX_OK) {
        index->definition.where = where;
        return ANNEX_OK;
    }
    return status == ANNEX_INVALID ? say_unfit(index, why.message, error)
                                   : error_set(error, status, "%s", why.message);
}

/* Takes over names of columns. */
static annex_status inspect_follow_columns(annex_db *db, struct catalog_index *index,
                                           const struct host_log_found *found,
                                           struct arena *scratch, annex_error *error)
{
    struct definition *definition = &index->definition;
    struct renamed renamed = {.n = 0};
    size_t n = definition->n_keys + definition->n_watched;
    bool same = true;
    TRY(arena_new(scratch, n, sizeof *renamed.from, &renamed.from, error));
    TRY(arena_new(scratch, n, sizeof *renamed.to, &renamed.to, error));
    for (size_t i = 0; i < definition->n_keys; i++) {
        same = same && strcmp(definition->keys[i], found->keys[i]) == 0;
        renamed_add(&renamed, definition->keys[i], found->keys[i]);
    }
    for (size_t i = 0; i < definition->n_watched; i++) {
        same = same && strcmp(definition->watched[i], found->watched[i]) == 0;
        renamed_add(&renamed, definition->watched[i], found->watched[i]);
    }
    if (same) {
        return ANNEX_OK;
    }
    if (definition->where[0] != '\0') {
        TRY(inspect_follow_condition(db, index, &renamed, error));
    }
    for (size_t i = 0; i < n; i++) {
        bool key = i < definition->n_keys;
        size_t at = key ? i : i - definition->n_keys;
        const char *name = key ? found->keys[at] : found->watched[at];
        TRY(arena_text(&index->arena, name, strlen(name),
                       key ? &definition->keys[at] : &definition->watched[at], error));
    }
    definition->column = definition->watched[0];
    index->followed = true;
    index->where_checked = false;
    index->schema_version = 0;
    return ANNEX_OK;
}

/* ---- the table --------------------------------------------------------------------------------*/

/* Segments and delta are of keys or vectors that the table does not have any more. */
static void inspect_close_segments(annex_db *db, struct catalog_index *index)
{
    for (size_t i = 0; i < index->n_parts; i++) {
        store_close(db, &index->parts[i]);
    }
    rowkey_set_free(&db->env, &index->delta.keys);
    index->delta.keys.integer = index->shape.integer;
    index->delta.states.bytes = index->delta.vectors.bytes = 0;
    index->delta.loaded = false;
}

/* The shape is that of the table now; the definition says what segments were built with. */
static void inspect_take_key(annex_db *db, struct catalog_index *index, bool integer_key)
{
    char what[KEY_TEXT_BYTES + 200], call[CALL_TEXT_BYTES];
    if (index->shape.integer != integer_key) {
        index->shape.integer = integer_key;
        inspect_close_segments(db, index);
    }
    if (index->definition.integer_key != integer_key) {
        snprintf(what, sizeof what,
                 "the key %.60s of table %.60s has another type than in the index",
                 index->definition.keys[0], index->table);
        say_stale(index, what, catalog_call(index, "annex_sync", call));
    }
}

static annex_status inspect_say_not_unique(struct catalog_index *index, struct arena *scratch,
                                           annex_error *error)
{
    char call[CALL_TEXT_BYTES];
    const char *columns = "", *what = NULL, *name = NULL, *run = NULL;
    for (size_t i = 0; i < index->shape.n_columns; i++) {
        TRY(host_quote(scratch, index->definition.keys[i], &name, error));
        TRY(arena_printf(scratch, &columns, error, "%s%s%s", columns, i > 0 ? ", " : "", name));
    }
    TRY(arena_printf(scratch, &what, error,
                     "the key (%s) of table %s is not declared unique any more, so that it could "
                     "name several rows",
                     columns, index->table));
    TRY(arena_printf(scratch, &run, error,
                     "CREATE UNIQUE INDEX %s.annex_key_%lld ON %s(%s), then %s", index->schema_sql,
                     (long long)index->id, index->column_sql, columns,
                     catalog_call(index, "annex_sync", call)));
    say_stale(index, what, run);
    return ANNEX_OK;
}

/* The table cannot be watched as it is now: `why` says so. */
static annex_status inspect_refused(annex_db *db, struct catalog_index *index, annex_status status,
                                    const annex_error *why, struct arena *scratch,
                                    annex_error *error)
{
    char call[CALL_TEXT_BYTES];
    const char *what = NULL;
    bool present = false;
    TRY(db->host->type->has_table(db->host, index->schema, index->table, &present, error));
    catalog_call(index, "annex_drop", call);
    if (!present) {
        return error_set(error, ANNEX_NOT_FOUND, "the table %s of index %s is gone; run %s",
                         index->table, index->name, call);
    }
    if (status == ANNEX_NOT_FOUND) {
        return say_unfit(index, why->message, error);
    }
    if (status != ANNEX_UNSUPPORTED && status != ANNEX_INVALID) {
        return error_set(error, status, "%s", why->message);
    }
    index->beyond_sync = true;
    if (status == ANNEX_INVALID) {
        return inspect_say_not_unique(index, scratch, error);
    }
    TRY(arena_printf(scratch, &what, error,
                     "%s is not the table that was indexed but a view or virtual table, whose "
                     "changes SQLite cannot log",
                     index->table));
    say_stale(index, what, call);
    return ANNEX_OK;
}

/* Are the columns that the index is made of still there? */
static annex_status inspect_columns(annex_db *db, struct catalog_index *index,
                                    struct arena *scratch, annex_error *error)
{
    const struct definition *definition = &index->definition;
    const char *columns = NULL, *column = NULL, *what = NULL;
    annex_error why = {ANNEX_OK, ""};
    TRY(source_key_list(index, scratch, &columns, error));
    for (size_t i = 0; i < definition->n_watched; i++) {
        TRY(source_column(index, scratch, definition->watched[i], &column, error));
        TRY(arena_printf(scratch, &columns, error, "%s, %s", columns, column));
    }
    /* It is run, not only prepared: a statement kept from before may know the old columns. */
    annex_status status =
        host_run(db->host, &why, "SELECT %s FROM %s LIMIT 0", columns, index->table_sql);
    if (status == ANNEX_HOST) {
        TRY(arena_printf(scratch, &what, error, "%s does not have all of its columns (%s)",
                         index->table, why.message));
        return say_unfit(index, what, error);
    }
    return status == ANNEX_OK ? status : error_set(error, status, "%s", why.message);
}

static annex_status inspect_table(annex_db *db, struct catalog_index *index, struct arena *scratch,
                                  annex_error *error)
{
    struct host_table table;
    const struct definition *definition = &index->definition;
    const char **columns = NULL;
    size_t n = 0;
    annex_error why = {ANNEX_OK, ""};
    annex_status status =
        db->host->type->describe(db->host, index->schema, index->table, definition->keys,
                                 definition->n_keys, scratch, &table, &why);
    if (status != ANNEX_OK) {
        TRY(inspect_refused(db, index, status, &why, scratch, error));
    } else {
        inspect_take_key(db, index, table.integer_key);
    }
    TRY(inspect_columns(db, index, scratch, error));
    if (status == ANNEX_OK && definition->where[0] != '\0' && !index->where_checked) {
        TRY(db->host->type->condition(db->host, &table, definition->where, scratch, &columns, &n,
                                      error));
        index->where_checked = true;
    }
    return ANNEX_OK;
}

/* ---- all of it --------------------------------------------------------------------------------*/

/* Describes the table when it may be another one than when it was found to fit. */
static annex_status inspect_table_if_new(annex_db *db, struct catalog_index *index,
                                         struct arena *scratch, annex_error *error)
{
    int64_t version = 0;
    bool where_open = index->definition.where[0] != '\0' && !index->where_checked;
    TRY(db->host->type->schema_version(db->host, index->schema, &version, error));
    index->schema_seen = version;
    if (index->stale.message[0] == '\0' && !where_open && version == index->schema_version) {
        return ANNEX_OK;
    }
    TRY(inspect_table(db, index, scratch, error));
    bool fits = index->stale.message[0] == '\0' && !db->host->type->in_transaction(db->host);
    index->schema_version = fits ? version : 0;
    return ANNEX_OK;
}

static void inspect_say_moved(struct catalog_index *index)
{
    const struct definition *definition = &index->definition;
    char what[ANNEX_ERROR_BYTES / 2], call[CALL_TEXT_BYTES];
    snprintf(what, sizeof what, "collection %.200s %s", definition->collection,
             index->collection_now == 0       ? "is not there any more"
             : definition->collection_id == 0 ? "was not there at the last sync"
                                              : "is another one than at the last sync");
    say_stale(index, what, catalog_call(index, "annex_sync", call));
}

annex_status catalog_inspect(annex_db *db, struct catalog_index *index, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct host_log_found found;
    const char *what = NULL;
    char call[CALL_TEXT_BYTES];
    bool moved = false;
    annex_status status = collection_inspect(db, index, &moved, error);
    TRY_CLEANUP(status);
    struct host_log log = catalog_log(index);
    TRY_CLEANUP(db->host->type->log_inspect(db->host, &log, &scratch, &found, error));
    if (strcmp(found.table, index->table) != 0) {
        TRY_CLEANUP(catalog_name_table(index, found.table, error));
        index->followed = true;
        index->schema_version = 0;
    }
    index->fingerprint = found.state == HOST_LOG_GOOD ? found.fingerprint : 0;
    if (found.state == HOST_LOG_GOOD) {
        TRY_CLEANUP(inspect_follow_columns(db, index, &found, &scratch, error));
    } else {
        const char *how = found.state == HOST_LOG_MISSING ? "is gone"
                          : found.state == HOST_LOG_OLDER ? "was made anew"
                                                          : "was changed";
        TRY_CLEANUP(arena_printf(&scratch, &what, error,
                                 "%s %s, so that index %s may not have all rows of table %s",
                                 found.what, how, index->name, index->table));
        say_stale(index, what, catalog_call(index, "annex_sync", call));
    }
    if (moved) { /* the deeper reason */
        inspect_say_moved(index);
    }
    status = inspect_table_if_new(db, index, &scratch, error);
cleanup:
    arena_free(&scratch);
    return status;
}

/* ---- vectors of another kind ------------------------------------------------------------------*/

/* Format and dimension as the samples have them, unless the user said which they must be. */
static annex_status outgrown_learn(annex_db *db, struct catalog_index *index,
                                   const annex_value *samples, size_t n, struct arena *scratch,
                                   bool *learned, annex_error *error)
{
    struct definition given, now = index->definition;
    struct vector_reader reader;
    void *vector = NULL;
    TRY(definition_parse(scratch, index->definition.options, &given, error));
    now.format = given.format;
    now.dimension = given.dimension;
    annex_status status = vector_detect(&db->env, samples, n, &now, NULL);
    if (status != ANNEX_OK || !definition_is_complete(&now)) {
        return status == ANNEX_NOMEM ? error_nomem(error, 0) : ANNEX_OK;
    }
    TRY(vector_reader_open(&db->env, &now, &reader, error));
    status = arena_new(scratch, reader.bytes, 1, &vector, error);
    *learned = status == ANNEX_OK && vector_read(&reader, &samples[0], vector, NULL) != VECTOR_BAD;
    vector_reader_close(&reader);
    if (*learned) {
        index->definition.format = now.format;
        index->definition.dimension = now.dimension;
    }
    return status;
}

static annex_status outgrown_look(annex_db *db, struct catalog_index *index, struct arena *scratch,
                                  bool *outgrown, annex_error *error)
{
    annex_value samples[VECTOR_SAMPLES];
    struct vector_reader reader;
    void *vector = NULL;
    size_t n = 0;
    bool bad = true;
    TRY(source_samples(db, index, scratch, samples, VECTOR_SAMPLES, &n, error));
    TRY(vector_reader_open(&db->env, &index->definition, &reader, error));
    annex_status status = arena_new(scratch, reader.bytes, 1, &vector, error);
    for (size_t i = 0; status == ANNEX_OK && i < n && bad; i++) {
        bad = vector_read(&reader, &samples[i], vector, NULL) == VECTOR_BAD;
    }
    vector_reader_close(&reader);
    if (status == ANNEX_OK && n > 0 && bad) {
        status = outgrown_learn(db, index, samples, n, scratch, outgrown, error);
    }
    return status;
}

annex_status catalog_outgrown(annex_db *db, struct catalog_index *index, bool *outgrown,
                              annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const struct definition before = index->definition;
    const struct definition *now = &index->definition;
    char what[400], call[CALL_TEXT_BYTES];
    *outgrown = false;
    if (!definition_is_complete(&before)) {
        return ANNEX_OK;
    }
    annex_status status = outgrown_look(db, index, &scratch, outgrown, error);
    arena_free(&scratch);
    if (*outgrown) {
        inspect_close_segments(db, index);
        snprintf(what, sizeof what,
                 "column %.60s of table %.60s holds vectors of %u dimensions as %s now, and the "
                 "index has %u as %s",
                 now->column, index->table, now->dimension, annex_format_name(now->format),
                 before.dimension, annex_format_name(before.format));
        say_stale(index, what, catalog_call(index, "annex_sync", call));
    }
    return status;
}
