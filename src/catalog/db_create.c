/*
 * db_create.c - defining an index, by options or as a copy of another one. One transaction: all of
 * it, or nothing.
 *
 * Every source is defined and built first, which may take long; then the database is told.
 */
#include "catalog/catalog.h"

#include <strings.h>

enum { CREATE_NAME_BYTES = 200 };

/* ---- names -----------------------------------------------------------------------------------*/

annex_status create_check_name(const char *name, annex_error *error)
{
    if (name[0] == '\0' || strlen(name) > CREATE_NAME_BYTES || strchr(name, '.') != NULL) {
        return error_set(error, ANNEX_INVALID,
                         "\"%.60s\" cannot be the name of an index: give 1 to %d bytes without a "
                         "dot, after the schema if there is one",
                         name, CREATE_NAME_BYTES);
    }
    return ANNEX_OK;
}

annex_status create_check_free(annex_db *db, const char *schema, const char *name,
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

annex_status create_check_writable(annex_db *db, const char *schema, annex_error *error)
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
    if (definition->collection[0] != '\0') {
        TRY(collection_define(db, index, error));
    }
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

/* ---- several sources --------------------------------------------------------------------------*/

/* A create on its way: one index, or one for each source and the row they belong to. */
struct creation {
    annex_db *db;
    struct arena scratch;
    const char *schema, *name;
    const char *options; /* of the whole */
    struct source_spec *specs;
    struct catalog_index **indexes; /* [n], of the sources */
    size_t n;
    struct catalog_index *whole; /* NULL for one source */
};

/* Compares source `i` with the first of those before it that tells the same thing. */
static annex_status create_agree(const struct creation *self, size_t i, annex_error *error)
{
    const struct catalog_index *index = self->indexes[i];
    const struct definition *b = &index->definition;
    for (size_t j = 0; j < i; j++) {
        const struct catalog_index *other = self->indexes[j];
        const struct definition *a = &other->definition;
        if (strcmp(sources_label(other), sources_label(index)) == 0) {
            return error_set(error, ANNEX_INVALID,
                             "two sources of index %s are called %s; give one another \"name\"",
                             self->name, sources_label(index));
        }
        if (strcmp(a->model, b->model) != 0) {
            return error_set(error, ANNEX_INVALID,
                             "%s holds vectors of the model \"%s\" and %s those of \"%s\", which "
                             "cannot be compared; make an index for each",
                             sources_name(other), a->model, sources_name(index), b->model);
        }
        if (a->dimension > 0 && b->dimension > 0 && a->dimension != b->dimension) {
            return error_set(error, ANNEX_INVALID,
                             "%s holds vectors of %u dimensions and %s those of %u, which cannot "
                             "be compared; make an index for each",
                             sources_name(other), a->dimension, sources_name(index), b->dimension);
        }
    }
    return ANNEX_OK;
}

/* The name of an index of a source: that of the whole, or the one of a member. */
static annex_status create_name_index(struct creation *self, size_t i, const char *table,
                                      annex_error *error)
{
    struct catalog_index *index = self->indexes[i];
    const char *label = self->specs[i].label;
    if (self->n == 1) {
        return ANNEX_OK;
    }
    if (label[0] == '\0') {
        label = index->definition.collection[0] != '\0' ? index->definition.collection : table;
    }
    return arena_printf(&index->arena, &index->name, error, "%s.%s", self->name, label);
}

/* Defines and builds the index of one source. */
static annex_status create_build(struct creation *self, size_t i, annex_error *error)
{
    annex_db *db = self->db;
    const struct source_spec *spec = &self->specs[i];
    struct catalog_index *index = self->indexes[i];
    const char *schema = NULL, *table = NULL;
    TRY(schema_split(db, &self->scratch, spec->table, &schema, &table, error));
    if (schema != NULL && strcmp(schema, self->schema) != 0) {
        return error_set(error, ANNEX_INVALID,
                         "the sources %s and %s are in different schemas; an index lives beside "
                         "its tables",
                         self->specs[0].table, spec->table);
    }
    TRY(create_define(db, index, table, spec->column, spec->options, error));
    TRY(create_name_index(self, i, index->definition.table, error));
    TRY(catalog_name(index, error));
    TRY(create_agree(self, i, error));
    TRY(catalog_build(db, index, true, error));
    return create_agree(self, i, error); /* the rows have told the dimension */
}

/* A source that is still empty must become what the others are. */
static void create_share_dimension(struct creation *self)
{
    uint32_t dimension = 0;
    for (size_t i = 0; i < self->n; i++) {
        dimension = MAX(dimension, self->indexes[i]->definition.dimension);
    }
    for (size_t i = 0; i < self->n; i++) {
        self->indexes[i]->definition.dimension = dimension;
    }
}

static annex_status create_write_whole(struct creation *self, annex_error *error)
{
    const struct definition *first = &self->indexes[0]->definition;
    struct catalog_index *whole = self->whole;
    whole->definition = (struct definition){
        .table = "",
        .column = "",
        .where = "",
        .collection = "",
        .engine = first->engine,
        .engine_options = first->engine_options,
        .options = self->options,
        .model = first->model,
        .metric = first->metric,
        .recall = first->recall,
        .dimension = first->dimension,
        .n_sources = (uint32_t)self->n,
    };
    TRY(schema_insert_index(self->db, whole, error));
    return schema_update_index(self->db, whole, error);
}

static annex_status create_write(annex_db *db, struct catalog_index *index, annex_error *error)
{
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
    if (index->definition.is_default) {
        TRY(sources_clear_default(db, index->schema, sources_name(index), sources_kind(index),
                                  index->id, error));
    }
    return schema_update_index(db, index, error);
}

/* Everything between begin and commit. */
static annex_status create_run(struct creation *self, annex_error *error)
{
    annex_db *db = self->db;
    const char *schema_sql = self->indexes[0]->schema_sql;
    TRY(create_check_free(db, self->schema, self->name, error));
    for (size_t i = 0; i < self->n; i++) {
        TRY(create_build(self, i, error));
    }
    create_share_dimension(self);
    TRY(db->host->type->change(db->host, error));
    TRY(schema_create_tables(db, schema_sql, error));
    if (self->n > 1) {
        TRY(create_write_whole(self, error));
    }
    for (size_t i = 0; i < self->n; i++) {
        TRY(create_write(db, self->indexes[i], error));
    }
    return ANNEX_OK;
}

static annex_status creation_open(struct creation *self, annex_error *error)
{
    annex_db *db = self->db;
    TRY(create_check_writable(db, self->schema, error));
    TRY(arena_new(&self->scratch, self->n, sizeof *self->indexes, &self->indexes, error));
    for (size_t i = 0; i < self->n; i++) {
        TRY(catalog_new(db, self->schema, self->name, &self->indexes[i], error));
    }
    return self->n > 1 ? catalog_new(db, self->schema, self->name, &self->whole, error) : ANNEX_OK;
}

static void creation_close(struct creation *self)
{
    for (size_t i = 0; self->indexes != NULL && i < self->n; i++) {
        catalog_close(self->db, self->indexes[i]);
    }
    catalog_close(self->db, self->whole);
    arena_free(&self->scratch);
}

/* Creates what is named and specified, in one transaction. */
static annex_status creation_commit(struct creation *self, annex_error *error)
{
    annex_db *db = self->db;
    TRY(creation_open(self, error));
    TRY(db->host->type->begin(db->host, error));
    annex_status status = create_run(self, error);
    if (status == ANNEX_OK) {
        status = db->host->type->commit(db->host, error);
    }
    if (status == ANNEX_OK) {
        return ANNEX_OK;
    }
    db->host->type->rollback(db->host);
    for (size_t i = 0; self->indexes != NULL && i < self->n; i++) {
        struct catalog_index *index = self->indexes[i];
        for (size_t j = 0; index != NULL && j < index->n_parts; j++) {
            store_remove(db, index, &index->parts[j]);
        }
    }
    return status;
}

annex_status annex_db_create(annex_db *db, const char *index_name, const char *table,
                             const char *column, const char *options, annex_error *error)
{
    struct creation self = {.db = db, .scratch = {&db->env, NULL}, .options = options};
    const char *table_name = NULL;
    annex_status status =
        sources_split(&self.scratch, table, column, options, &self.specs, &self.n, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(create_resolve(db, &self.scratch, index_name, table, &self.schema, &self.name,
                               &table_name, error));
    status = creation_commit(&self, error);
cleanup:
    creation_close(&self);
    return status;
}

/* ---- copy ------------------------------------------------------------------------------------*/

/* The source of one index, as it is now, with the changes that the user wants. */
static annex_status copy_spec(struct creation *self, const char *from, const char *changes,
                              struct source_spec *spec, annex_error *error)
{
    annex_db *db = self->db;
    struct arena *arena = &self->scratch;
    struct catalog_index *index = NULL;
    struct host_statement *hold = NULL;
    TRY(catalog_open(db, from, &index, &hold, error));
    annex_status status = catalog_inspect(db, index, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(arena_text(arena, index->schema, strlen(index->schema), &self->schema, error));
    TRY_CLEANUP(arena_printf(arena, &spec->table, error, "%s.%s", index->schema, index->table));
    spec->label = "";
    if (sources_is_member(index->name)) {
        const char *label = sources_label(index);
        TRY_CLEANUP(arena_text(arena, label, strlen(label), &spec->label, error));
    }
    status = sources_copy_options(arena, &index->definition, changes, &spec->column, &spec->options,
                                  error);
cleanup:
    db->host->type->finish(hold);
    return status;
}

static annex_status copy_read(struct creation *self, const char *from, const char *to,
                              const char *changes, annex_error *error)
{
    const char **names = NULL;
    const char *schema = NULL;
    TRY(sources_list(self->db, &self->scratch, from, &names, &self->n, NULL, error));
    TRY(arena_new(&self->scratch, self->n, sizeof *self->specs, &self->specs, error));
    for (size_t i = 0; i < self->n; i++) {
        TRY(copy_spec(self, names[i], changes, &self->specs[i], error));
    }
    self->options = self->specs[0].options;
    TRY(schema_split(self->db, &self->scratch, to, &schema, &self->name, error));
    TRY(create_check_name(self->name, error));
    return schema == NULL || strcmp(schema, self->schema) == 0
               ? ANNEX_OK
               : error_set(error, ANNEX_INVALID,
                           "a copy cannot lie in another schema; an index lives beside its table "
                           "in %s",
                           self->schema);
}

annex_status annex_db_copy(annex_db *db, const char *from, const char *to, const char *changes,
                           annex_error *error)
{
    struct creation self = {.db = db, .scratch = {&db->env, NULL}};
    annex_status status = copy_read(&self, from, to, changes, error);
    TRY_CLEANUP(status);
    status = creation_commit(&self, error);
cleanup:
    creation_close(&self);
    return status;
}
