/*
 * import.c - annex_import(from, to[, options]): a vec0 table of sqlite-vec or a vss0 table of
 * sqlite-vss becomes an ordinary table with an Annex index for each vector column.
 *
 * Invariants
 *   1. Neither extension is needed: their shadow tables are read, which are ordinary tables.
 *   2. All or nothing: a savepoint around everything. The old table is never written to.
 *   3. Nothing of the old table is believed: counts, places and lengths are checked, and what
 *      contradicts itself is an error that names the place.
 *
 * Rows are copied by import_vec0.c and import_vss0.c.
 */
#include <string.h>

#include "sqlite/import/import.h"
#include "sqlite/statement.h"

/* ---- The old table ----------------------------------------------------------------------------*/

static annex_status import_read_declaration(struct import *import, annex_error *error)
{
    annex_error why;

    if (import_declaration_read(import->sql, strlen(import->sql), &import->module,
                                &import->declaration, &why)) {
        return ANNEX_OK;
    }
    if (import->module == IMPORT_NEITHER) {
        connection_refuse(error,
                          "%s is not a vec0 or vss0 table; an ordinary table needs no import: "
                          "annex_create makes an index of its column",
                          import->table);
    } else {
        connection_refuse(error,
                          "the declaration of %s is not that of sqlite-vec up to 0.1.9 or of "
                          "sqlite-vss; copy the rows with INSERT INTO ... SELECT (%s)",
                          import->table, why.message);
    }
    error->status = ANNEX_UNSUPPORTED;
    return error->status;
}

static annex_status import_find(struct import *import, const char *from, annex_error *error)
{
    sqlite3_stmt *statement = NULL;
    const char *name = NULL;
    bool row = false;
    annex_status status =
        statement_split(import->handle, from, "main", &import->schema, &name, error);

    if (status == ANNEX_OK) {
        status = statement_ask(import->handle, &statement, &row, name, NULL, error,
                               "SELECT name, coalesce(sql, '') FROM \"%w\".sqlite_schema"
                               " WHERE name = ?1 COLLATE NOCASE AND type = 'table'",
                               import->schema);
    }
    if (status == ANNEX_OK && !row) {
        connection_refuse(error, "there is no table %s in schema %s", name, import->schema);
        status = error->status = ANNEX_NOT_FOUND;
    }
    if (status == ANNEX_OK) {
        status = statement_copy(statement, 0, &import->table, error);
    }
    if (status == ANNEX_OK) {
        status = statement_copy(statement, 1, &import->sql, error);
    }
    sqlite3_finalize(statement);
    return status == ANNEX_OK ? import_read_declaration(import, error) : status;
}

/* ---- The new table ----------------------------------------------------------------------------*/

static annex_status import_create_table(struct import *import, annex_error *error)
{
    const struct vec0_declaration *declaration = &import->declaration;
    sqlite3_str *sql = sqlite3_str_new(import->handle);
    annex_error why = {ANNEX_OK, ""};
    sqlite3_stmt *statement = NULL;
    annex_status status;

    sqlite3_str_appendf(sql, "CREATE TABLE \"%w\".\"%w\"(", import->target_schema, import->target);
    for (size_t i = 0; i < declaration->n; i++) {
        const struct vec0_column *column = &declaration->columns[i];

        sqlite3_str_appendf(sql, "%s\"%.*w\" %s%s", i > 0 ? ", " : "", (int)column->name.bytes,
                            column->name.text,
                            column->role == VEC0_VECTOR ? "BLOB" : vec0_type_name(column->type),
                            column->role != VEC0_KEY       ? ""
                            : column->type == VEC0_INTEGER ? " PRIMARY KEY"
                                                           : " PRIMARY KEY NOT NULL");
    }
    sqlite3_str_appendall(sql, ")");
    status = import_prepare(import, sqlite3_str_finish(sql), &statement, &why);
    if (status == ANNEX_OK) {
        bool row;

        status = statement_step(statement, &row, &why);
    }
    sqlite3_finalize(statement);
    if (status != ANNEX_OK) {
        connection_refuse(error, "%s cannot be made: %s", import->target, why.message);
        error->status = status;
    }
    return status;
}

/* ---- Indexes ----------------------------------------------------------------------------------*/

/* What annex_create is told; what the caller says goes before what the declaration says. */
static annex_status import_index_options(struct import *import, const struct vec0_column *column,
                                         char **options, annex_error *error)
{
    sqlite3_stmt *statement;
    bool row;
    annex_status status = statement_ask(
        import->handle, &statement, &row, annex_metric_name(column->metric),
        annex_format_name(vec0_format(column)), error,
        "SELECT json_patch(json_object('metric', ?1, 'format', ?2, 'dimension', %lld), %Q)",
        (long long)column->dimension, import->options == NULL ? "{}" : import->options);

    *options = NULL;
    if (status == ANNEX_HOST) {
        connection_refuse(error, "the options of annex_import are not a JSON object; they are "
                                 "those of annex_create, {\"recall\": 0.99}");
    }
    if (status == ANNEX_OK && row) {
        status = statement_copy(statement, 0, options, error);
    }
    sqlite3_finalize(statement);
    return status;
}

/* The names of indexes have no dots: what is in front of one is a schema. */
static char *import_index_name(struct import *import, const struct vec0_column *column)
{
    char *name = sqlite3_mprintf("%s.%s_%.*s_idx", import->target_schema, import->target,
                                 (int)column->name.bytes, column->name.text);

    for (char *at = name == NULL ? NULL : name + strlen(import->target_schema) + 1;
         at != NULL && *at != '\0'; at++) {
        *at = *at == '.' ? '_' : *at;
    }
    return name;
}

static annex_status import_create_index(struct import *import, const struct vec0_column *column,
                                        annex_error *error)
{
    annex_error why;
    char *options = NULL;
    char *name = import_index_name(import, column);
    char *table = sqlite3_mprintf("%s.%s", import->target_schema, import->target);
    char *vector = sqlite3_mprintf("%.*s", (int)column->name.bytes, column->name.text);
    annex_status status = import_index_options(import, column, &options, error);

    if (status == ANNEX_OK && (name == NULL || table == NULL || vector == NULL)) {
        status = statement_nomem(error);
    }
    if (status == ANNEX_OK) {
        status = annex_db_create(import->annex, name, table, vector, options, &why);
        if (status != ANNEX_OK) {
            connection_refuse(error, "nothing of %s was imported: %s", import->table, why.message);
            error->status = status;
        }
    }
    sqlite3_free(options);
    sqlite3_free(name);
    sqlite3_free(table);
    sqlite3_free(vector);
    return status;
}

/* {"rows":…,"columns":[…],"indexes":[…]}, and how many vectors were left out if there were any. */
static annex_status import_describe(struct import *import, annex_error *error)
{
    sqlite3_str *names = sqlite3_str_new(import->handle);
    sqlite3_stmt *statement;
    char *vectors;
    bool row;
    annex_status status;

    sqlite3_str_appendall(names, "NULL");
    for (size_t i = 0; i < import->declaration.n; i++) {
        const struct vec0_column *column = &import->declaration.columns[i];

        if (column->role == VEC0_VECTOR) {
            sqlite3_str_appendf(names, ", %.*Q", (int)column->name.bytes, column->name.text);
        }
    }
    vectors = sqlite3_str_finish(names);
    if (vectors == NULL) {
        return statement_nomem(error);
    }
    status = statement_ask(
        import->handle, &statement, &row, import->target, import->target_schema, error,
        "SELECT json_patch(json_object('rows', %lld, 'columns', json_group_array(name), 'indexes',"
        " json_group_array(replace(?1, '.', '_') || '_' || name || '_idx')"
        " FILTER (WHERE name IN (%s))),"
        " CASE %lld WHEN 0 THEN '{}' ELSE json_object('skipped', %lld) END)"
        " FROM pragma_table_info(?1, ?2)",
        (long long)import->rows, vectors, (long long)import->skipped, (long long)import->skipped);
    sqlite3_free(vectors);
    if (status == ANNEX_OK && row) {
        status = statement_copy(statement, 0, &import->report, error);
    }
    sqlite3_finalize(statement);
    return status;
}

static annex_status import_run(struct import *import, annex_error *error)
{
    const struct vec0_declaration *declaration = &import->declaration;
    annex_status status = import_create_table(import, error);

    if (status == ANNEX_OK) {
        status = import->module == IMPORT_VSS0 ? import_vss0_copy(import, error)
                                               : import_vec0_copy(import, error);
    }
    for (size_t i = 0; status == ANNEX_OK && i < declaration->n; i++) {
        if (declaration->columns[i].role == VEC0_VECTOR) {
            status = import_create_index(import, &declaration->columns[i], error);
        }
    }
    return status == ANNEX_OK ? import_describe(import, error) : status;
}

/* ---- The function -----------------------------------------------------------------------------*/

static annex_status import_in_savepoint(struct import *import, annex_error *error)
{
    annex_error ignored;
    annex_status status = statement_run(import->handle, error, "SAVEPOINT annex_import");

    if (status != ANNEX_OK) {
        return status;
    }
    status = import_run(import, error);
    if (status == ANNEX_OK) {
        status = statement_run(import->handle, error, "RELEASE annex_import");
    }
    if (status != ANNEX_OK && sqlite3_get_autocommit(import->handle) == 0) {
        statement_run(import->handle, &ignored, "ROLLBACK TO annex_import");
        statement_run(import->handle, &ignored, "RELEASE annex_import");
    }
    return status;
}

static annex_status import_call(sqlite3_context *context, struct import *import, const char *from,
                                const char *to, annex_error *error)
{
    struct connection *connection = sqlite3_user_data(context);
    annex_status status = import_find(import, from, error);

    if (status == ANNEX_OK) {
        status = statement_split(import->handle, to, import->schema, &import->target_schema,
                                 &import->target, error);
    }
    if (status == ANNEX_OK) {
        status = connection_begin(connection, &import->annex, error);
    }
    if (status == ANNEX_OK) {
        status = import_in_savepoint(import, error);
        connection_end(connection);
    }
    return status;
}

static void import_function(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct import import = {.handle = sqlite3_context_db_handle(context)};
    const char *from = NULL;
    const char *to = NULL;
    annex_error error;
    bool fails = !function_text(arguments[0], "name of the old table", &from, &error) ||
                 !function_text(arguments[1], "name of the new table", &to, &error);

    if (!fails && n == 3 && sqlite3_value_type(arguments[2]) != SQLITE_NULL) {
        fails = !function_text(arguments[2], "options", &import.options, &error);
    }
    fails = fails || import_call(context, &import, from, to, &error) != ANNEX_OK;
    if (fails) {
        connection_fail_function(context, &error);
        sqlite3_free(import.report);
    } else {
        sqlite3_result_text(context, import.report, -1, sqlite3_free);
    }
    sqlite3_free(import.schema);
    sqlite3_free(import.table);
    sqlite3_free(import.target_schema);
    sqlite3_free(import.sql);
}

const struct function import_functions[] = {
    {"annex_import", 2, 3, SQLITE_DIRECTONLY, import_function},
    {NULL, 0, 0, 0, NULL},
};
