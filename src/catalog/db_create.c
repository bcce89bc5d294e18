/*
 * db_create.c - defining, renaming and dropping an index. Each is one transaction: all of it, or
 * nothing.
 */
#include "catalog/catalog.h"

#include <strings.h>

enum { CREATE_NAME_BYTES = 200 };

/* ---- names -----------------------------------------------------------------------------------*/

static annex_status create_check_name(const char *name, annex_error *error)
{
    if (name[0] == '\0' || strlen(name) > CREATE_NAME_BYTES || strchr(name, '.') != NULL) {
        return error_set(error, ANNEX_INVALID,
                         "\"%.60s\" cannot be the name of an index: give 1 to %d bytes without a "
                         "dot, after the schema if there is one",
                         name, CREATE_NAME_BYTES);
    }
    return ANNEX_OK;
}

static annex_status create_check_free(annex_db *db, const char *schema, const char *name,
                                      annex_error *error)
{
    struct host_statement *hold = NULL;
    struct catalog_index *index = NULL;
    annex_status status = catalog_open_in(db, schema, name, &index, &hold, NULL);
    db->host->type->finish(hold);
    if (status == ANNEX_NOT_FOUND) {
        return ANNEX_OK;
    }
    return error_set(error, ANNEX_EXISTS,
                     "there is an index %s already; choose another name, or drop it first", name);
}

/* The schema that holds both: the one that is named, or the first one that has the table. */
static annex_status create_resolve(annex_db *db, struct arena *arena, const char *index,
                                   const char *table, const char **schema, const char **index_name,
                                   const char **table_name, annex_error *error)
{
    const char *index_schema = NULL;
    const char **schemas = NULL;
    size_t n = 0;
    bool present = false;
    TRY(schema_split(db, arena, index, &index_schema, index_name, error));
    TRY(schema_split(db, arena, table, schema, table_name, error));
    if (index_schema != NULL && *schema != NULL && strcmp(index_schema, *schema) != 0) {
        return error_set(error, ANNEX_INVALID,
                         "index %s and table %s are in different schemas; an index lives beside "
                         "its table",
                         index, table);
    }
    *schema = *schema != NULL ? *schema : index_schema;
    TRY(create_check_name(*index_name, error));
    if (*schema != NULL) {
        return ANNEX_OK;
    }
    TRY(db->host->type->schemas(db->host, arena, &schemas, &n, error));
    for (size_t i = 0; i < n && !present; i++) {
        TRY(db->host->type->has_table(db->host, schemas[i], *table_name, &present, error));
        *schema = schemas[i];
    }
    return present ? ANNEX_OK : error_set(error, ANNEX_NOT_FOUND, "there is no table %s", table);
}

static annex_status create_check_writable(annex_db *db, const char *schema, annex_error *error)
{
    if (schema != NULL && db->host->type->read_only(db->host, schema)) {
        return error_set(error, ANNEX_READ_ONLY,
                         "the database %s is open for reading only; searching works, changing its "
                         "indexes does not",
                         schema);
    }
    return ANNEX_OK;
}

/* ---- create ----------------------------------------------------------------------------------*/

static annex_status create_take_column(const struct host_table *table, const char *column,
                                       struct definition *definition, annex_error *error)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        if (strcasecmp(table->columns[i].name, column) == 0) {
            definition->column = table->columns[i].name;
            return ANNEX_OK;
        }
    }
    return error_set(error, ANNEX_NOT_FOUND, "the table %s has no column %s", table->name, column);
}

/* Completes the definition with what the table says. */
static annex_status create_define(annex_db *db, struct catalog_index *index, const char *table,
                                  const char *column, const char *options, annex_error *error)
{
    struct definition *definition = &index->definition;
    struct host *host = db->host;
    struct host_table description;
    const char **columns = NULL;
    size_t n = 0;
    TRY(definition_parse(&index->arena, options, definition, error));
    if (definition->in_file && host->type->file(host, index->schema) == NULL) {
        return error_set(error, ANNEX_INVALID,
                         "the database is not in a file, so no index can be stored beside it; use "
                         "{\"storage\": \"database\"}");
    }
    TRY(host->type->describe(host, index->schema, table, definition->keys, definition->n_keys,
                             &index->arena, &description, error));
    TRY(create_take_column(&description, column, definition, error));
    definition->table = description.name;
    definition->n_keys = description.n_keys;
    definition->integer_key = description.integer_key;
    memcpy(definition->keys, description.keys, sizeof definition->keys);
    if (definition->where[0] != '\0') {
        TRY(host->type->condition(host, &description, definition->where, &index->arena, &columns,
                                  &n, error));
    }
    TRY(arena_new(&index->arena, n + 1, sizeof *definition->watched, &definition->watched, error));
    definition->watched[definition->n_watched++] = definition->column;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(columns[i], definition->column) != 0) {
            definition->watched[definition->n_watched++] = columns[i];
        }
    }
    return ANNEX_OK;
}

/* Everything between begin and commit. */
static annex_status create_run(annex_db *db, struct catalog_index *index, const char *table,
                               const char *column, const char *options, annex_error *error)
{
    TRY(create_define(db, index, table, column, options, error));
    TRY(create_check_free(db, index->schema, index->name, error));
    TRY(catalog_name(index, error));
    TRY(catalog_build(db, index, true, error));
    TRY(db->host->type->change(db->host, error));
    TRY(schema_create_tables(db, index->schema_sql, error));
    TRY(schema_insert_index(db, index, error));
    TRY(catalog_name(index, error)); /* the name of the log has the number in it */
    struct host_log log = catalog_log(index);
    TRY(db->host->type->log_drop(db->host, &log, error)); /* left by an index that is gone */
    TRY(db->host->type->log_create(db->host, &log, error));
    TRY(log_begin(db, index, error));
    TRY(schema_delete_parts(db, index, error)); /* likewise */
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY(store_write(db, index, &index->parts[i], error));
    }
    index->parts_expected = (int64_t)index->n_parts;
    return schema_update_index(db, index, error);
}

annex_status annex_db_create(annex_db *db, const char *index_name, const char *table,
                             const char *column, const char *options, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct catalog_index *index = NULL;
    const char *schema = NULL, *name = NULL, *table_name = NULL;
    annex_status status =
        create_resolve(db, &scratch, index_name, table, &schema, &name, &table_name, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(catalog_new(db, schema, name, &index, error));
    TRY_CLEANUP(create_check_writable(db, schema, error));
    TRY_CLEANUP(db->host->type->begin(db->host, error));
    status = create_run(db, index, table_name, column, options, error);
    if (status == ANNEX_OK) {
        status = db->host->type->commit(db->host, error);
    }
    if (status != ANNEX_OK) {
        db->host->type->rollback(db->host);
        for (size_t i = 0; i < index->n_parts; i++) {
            store_remove(db, index, &index->parts[i]);
        }
    }
cleanup:
    catalog_close(db, index);
    arena_free(&scratch);
    return status;
}

/* ---- rename ----------------------------------------------------------------------------------*/

static annex_status rename_run(annex_db *db, const char *from, const char *to,
                               struct arena *scratch, struct catalog_index **out,
                               annex_error *error)
{
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    const char *schema = NULL, *name = NULL;
    TRY(catalog_open(db, from, &index, &hold, error));
    db->host->type->finish(hold);
    *out = index;
    TRY(create_check_writable(db, index->schema, error));
    TRY(schema_split(db, scratch, to, &schema, &name, error));
    if (schema != NULL && strcmp(schema, index->schema) != 0) {
        return error_set(error, ANNEX_INVALID,
                         "an index cannot move to another schema; it lives beside its table in %s",
                         index->schema);
    }
    TRY(create_check_name(name, error));
    if (strcmp(name, index->name) != 0) {
        TRY(create_check_free(db, index->schema, name, error));
    }
    TRY(arena_text(&index->arena, name, strlen(name), &index->name, error));
    TRY(db->host->type->change(db->host, error));
    return schema_update_index(db, index, error);
}

annex_status annex_db_rename(annex_db *db, const char *from, const char *to, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct catalog_index *index = NULL;
    TRY(db->host->type->begin(db->host, error));
    annex_status status = rename_run(db, from, to, &scratch, &index, error);
    if (status == ANNEX_OK) {
        status = db->host->type->commit(db->host, error);
    }
    if (status != ANNEX_OK) {
        db->host->type->rollback(db->host);
    }
    if (index != NULL) {
        catalog_forget(index);
    }
    arena_free(&scratch);
    return status;
}

/* ---- drop ------------------------------------------------------------------------------------*/

/* Works also when the definition cannot be read: everything is found by the number of the index. */
static annex_status drop_run(annex_db *db, const char *name, struct arena *scratch,
                             struct catalog_index **out, annex_error *error)
{
    struct host_statement *hold = NULL;
    const char *schema = NULL, *plain = NULL;
    TRY(catalog_locate(db, scratch, name, &schema, &plain, &hold, error));
    int64_t id = host_integer(db->host, hold, 0);
    db->host->type->finish(hold);
    TRY(create_check_writable(db, schema, error));
    TRY(catalog_new(db, schema, plain, out, error));
    struct catalog_index *index = *out;
    index->id = id;
    index->definition.table = ""; /* not needed, and perhaps not readable */
    TRY(catalog_name(index, error));
    (void)catalog_read_parts(db, index, NULL);
    TRY(db->host->type->change(db->host, error));
    struct host_log log = catalog_log(index);
    TRY(db->host->type->log_drop(db->host, &log, error));
    TRY(schema_create_tables(db, index->schema_sql, error)); /* somebody may have dropped one */
    TRY(schema_delete_parts(db, index, error));
    TRY(host_run(db->host, error, "DELETE FROM %s.annex_index WHERE id = %lld", index->schema_sql,
                 (long long)id));
    return schema_drop_tables(db, index->schema_sql, error);
}

annex_status annex_db_drop(annex_db *db, const char *name, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    struct catalog_index *index = NULL;
    TRY(db->host->type->begin(db->host, error));
    annex_status status = drop_run(db, name, &scratch, &index, error);
    if (status == ANNEX_OK) {
        status = db->host->type->commit(db->host, error);
    }
    if (status != ANNEX_OK) {
        db->host->type->rollback(db->host);
    }
    for (size_t i = 0; status == ANNEX_OK && i < index->n_parts; i++) {
        store_remove(db, index, &index->parts[i]);
    }
    catalog_close(db, index);
    arena_free(&scratch);
    return status;
}
