/*
 * vec0_table.c - the life of a vec0 table: created, connected, renamed, dropped. What it is made of
 * is described in vec0.h.
 *
 * A table that sqlite-vec itself has made is refused: its shadow tables are others, and
 * annex_import brings its rows over.
 */
#include <string.h>

#include "sqlite/vec/vec0.h"

#define TABLE_ERROR "vec0 constructor error: "
/* module, schema, table, and then the arguments in parentheses */
#define TABLE_FIRST_ARGUMENT 3

/* ---- Reading the declaration ------------------------------------------------------------------*/

static void table_free(struct vec0_table *table)
{
    if (table != NULL) {
        vec0_end_statements(table);
        sqlite3_free(table->texts);
        sqlite3_free(table);
    }
}

/* Copies the arguments of xCreate behind each other. */
static bool table_copy_texts(struct vec0_table *table, int n, const char *const *arguments)
{
    size_t bytes = 0;

    for (int i = 1; i < n; i++) {
        bytes += strlen(arguments[i]) + 1;
    }
    table->texts = sqlite3_malloc64(bytes);
    if (table->texts == NULL) {
        return false;
    }
    for (int i = 1, at = 0; i < n; i++) {
        size_t length = strlen(arguments[i]) + 1;

        memcpy(table->texts + at, arguments[i], length);
        at += (int)length;
    }
    return true;
}

/* The hidden column for commands is called like the table. */
static bool table_check_name(const struct vec0_declaration *declaration, const char *name,
                             annex_error *error)
{
    for (size_t i = 0; i < declaration->n; i++) {
        struct piece column = declaration->columns[i].name;

        if (piece_is(column, name)) {
            connection_refuse(error,
                              TABLE_ERROR "column name '%.*s' conflicts with table name (reserved "
                                          "for command column)",
                              (int)column.bytes, column.text);
            return false;
        }
    }
    return true;
}

static bool table_read(struct vec0_table *table, int n, annex_error *error)
{
    const char *at = table->texts;

    table->schema = at;
    at += strlen(at) + 1;
    table->name = at;
    vec0_declare_begin(&table->declaration);
    for (int i = TABLE_FIRST_ARGUMENT; i < n; i++) {
        at += strlen(at) + 1;
        if (!vec0_declare_add(&table->declaration, (struct piece){at, strlen(at)}, error)) {
            return false;
        }
    }
    return vec0_declare_end(&table->declaration, error) &&
           table_check_name(&table->declaration, table->name, error);
}

/* Tells SQLite the columns. Without types, as in sqlite-vec, and so without affinities. */
static bool table_declare(struct vec0_table *table, annex_error *error)
{
    const struct vec0_declaration *declaration = &table->declaration;
    sqlite3_str *sql = sqlite3_str_new(table->handle);
    char *text;
    int code = SQLITE_NOMEM;

    sqlite3_str_appendall(sql, "CREATE TABLE x(");
    for (size_t i = 0; i < declaration->n; i++) {
        vec0_append_name(sql, &declaration->columns[i]);
        sqlite3_str_appendall(sql, i == 0 && declaration->counts[VEC0_KEY] > 0 ? " PRIMARY KEY, "
                                                                               : ", ");
    }
    sqlite3_str_appendf(sql, "\"%w\" HIDDEN, distance HIDDEN, k HIDDEN)%s", table->name,
                        vec0_key_is_text(table) ? " WITHOUT ROWID" : "");
    text = sqlite3_str_finish(sql);
    if (text != NULL) {
        code = sqlite3_declare_vtab(table->handle, text);
    }
    sqlite3_free(text);
    if (code != SQLITE_OK) {
        connection_refuse(error, TABLE_ERROR "could not declare virtual table, '%s'",
                          sqlite3_errmsg(table->handle));
    }
    return code == SQLITE_OK;
}

/* ---- The tables behind it ---------------------------------------------------------------------*/

static annex_status table_create_rows(struct vec0_table *table, annex_error *error)
{
    /* Wide columns come last, so that the others can be read without them. */
    static const enum vec0_role order[] = {VEC0_PARTITION, VEC0_METADATA, VEC0_VECTOR,
                                           VEC0_AUXILIARY};
    const struct vec0_declaration *declaration = &table->declaration;
    sqlite3_str *sql = sqlite3_str_new(table->handle);
    annex_status status;
    char *columns;

    vec0_append_name(sql, &declaration->columns[0]);
    /* Other tables refer to rowids, so that of a deleted row is never given to another one. */
    sqlite3_str_appendall(sql, vec0_key_is_text(table) ? " TEXT NOT NULL PRIMARY KEY"
                                                       : " INTEGER PRIMARY KEY AUTOINCREMENT");
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        for (size_t j = 1; j < declaration->n; j++) {
            const struct vec0_column *column = &declaration->columns[j];

            if (column->role == order[i]) {
                sqlite3_str_appendall(sql, ", ");
                vec0_append_name(sql, column);
                sqlite3_str_appendf(sql, " %s",
                                    column->role == VEC0_VECTOR ? "BLOB"
                                                                : vec0_type_name(column->type));
            }
        }
    }
    columns = sqlite3_str_finish(sql);
    status = statement_run(table->handle, error, "CREATE TABLE \"%w\".\"%w_rows\"(%s)",
                           table->schema, table->name, columns);
    sqlite3_free(columns);
    return status;
}

/* The columns of the index for filters; NULL when it needs none. */
static char *table_filter_columns(const struct vec0_table *table)
{
    const struct vec0_declaration *declaration = &table->declaration;
    sqlite3_str *sql = sqlite3_str_new(table->handle);

    for (enum vec0_role role = VEC0_PARTITION; role <= VEC0_METADATA; role++) {
        for (size_t i = 1; i < declaration->n; i++) {
            if (declaration->columns[i].role == role) {
                vec0_append_name(sql, &declaration->columns[i]);
                sqlite3_str_appendall(sql, ", ");
            }
        }
    }
    if (sqlite3_str_length(sql) > 0) {
        vec0_append_name(sql, &declaration->columns[0]);
    }
    return sqlite3_str_finish(sql);
}

/*
 * The index gets a name that is free: a table that was renamed has kept its own, because SQLite
 * drops no index while it renames a table.
 */
static annex_status table_create_filter(struct vec0_table *table, annex_error *error)
{
    char *columns = table_filter_columns(table);
    annex_status status = ANNEX_OK;
    unsigned long long number;

    if (columns != NULL) {
        sqlite3_randomness(sizeof number, &number);
        status = statement_run(table->handle, error,
                               "CREATE INDEX \"%w\".\"%w_rows_%llx\" ON \"%w_rows\"(%s)",
                               table->schema, table->name, number, table->name, columns);
    }
    sqlite3_free(columns);
    return status;
}

static annex_status table_create_all(struct vec0_table *table, annex_error *error)
{
    annex_error why;
    annex_status status = table_create_rows(table, &why);

    if (status == ANNEX_OK) {
        status = table_create_filter(table, &why);
    }
    if (status != ANNEX_OK) {
        connection_refuse(error, "Could not create '_rows' shadow table: %s", why.message);
        error->status = status;
        return status;
    }
    status = vec0_create_indexes(table, &why);
    if (status != ANNEX_OK) {
        connection_refuse(error, TABLE_ERROR "%s", why.message);
        error->status = status;
    }
    return status;
}

/* Whether there are shadow tables of sqlite-vec. A table t_rows beside them is somebody else's. */
static annex_status table_is_foreign(struct vec0_table *table, bool *foreign, annex_error *error)
{
    sqlite3_stmt *statement;
    annex_status status = statement_prepare(
        table->handle, &statement, error,
        "SELECT 1 FROM \"%w\".sqlite_schema WHERE name = '%q_chunks' COLLATE NOCASE AND EXISTS"
        "(SELECT 1 FROM \"%w\".sqlite_schema WHERE name = '%q_rowids' COLLATE NOCASE)",
        table->schema, table->name, table->schema, table->name);

    *foreign = false;
    if (status == ANNEX_OK) {
        status = statement_step(statement, foreign, error);
    }
    sqlite3_finalize(statement);
    return status;
}

static annex_status table_refuse_foreign(struct vec0_table *table, annex_error *error)
{
    bool foreign;
    annex_status status = table_is_foreign(table, &foreign, error);

    if (status == ANNEX_OK && foreign) {
        connection_refuse(error,
                          "the table %s was made by sqlite-vec and keeps its rows in another way: "
                          "bring them over with annex_import, or load sqlite-vec",
                          table->name);
        status = error->status;
    }
    return status;
}

/* ---- The module -------------------------------------------------------------------------------*/

static int table_open(sqlite3 *handle, struct connection *connection, int n,
                      const char *const *arguments, bool create, sqlite3_vtab **base,
                      char **message)
{
    struct vec0_table *table = sqlite3_malloc64(sizeof *table);
    annex_error error = {ANNEX_OK, ""};
    annex_status status;

    *base = NULL;
    if (table == NULL) {
        return SQLITE_NOMEM;
    }
    memset(table, 0, sizeof *table);
    table->handle = handle;
    table->connection = connection;
    if (!table_copy_texts(table, n, arguments)) {
        table_free(table);
        return SQLITE_NOMEM;
    }
    status = table_read(table, n, &error) && table_declare(table, &error) ? ANNEX_OK : error.status;
    if (status == ANNEX_OK) {
        status = create ? table_create_all(table, &error) : table_refuse_foreign(table, &error);
    }
    if (status != ANNEX_OK) {
        *message = sqlite3_mprintf("%s", error.message);
        table_free(table);
        return connection_code(status);
    }
    sqlite3_vtab_config(handle, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
    connection_hold(connection);
    *base = &table->base;
    return SQLITE_OK;
}

static int table_create(sqlite3 *handle, void *connection, int n, const char *const *arguments,
                        sqlite3_vtab **base, char **message)
{
    return table_open(handle, connection, n, arguments, true, base, message);
}

static int table_connect(sqlite3 *handle, void *connection, int n, const char *const *arguments,
                         sqlite3_vtab **base, char **message)
{
    return table_open(handle, connection, n, arguments, false, base, message);
}

static int table_disconnect(sqlite3_vtab *base)
{
    struct vec0_table *table = (struct vec0_table *)base;

    /* Statements end first: the connection may be on its way out. */
    vec0_end_statements(table);
    connection_detach_table(table->connection);
    table_free(table);
    return SQLITE_OK;
}

static int table_destroy(sqlite3_vtab *base)
{
    struct vec0_table *table = (struct vec0_table *)base;
    annex_error error;
    annex_status status;

    vec0_end_statements(table);
    status = vec0_drop_indexes(table, &error);
    if (status == ANNEX_OK) {
        status = statement_run(table->handle, &error, "DROP TABLE IF EXISTS \"%w\".\"%w_rows\"",
                               table->schema, table->name);
    }
    return status == ANNEX_OK ? table_disconnect(base) : vec0_fail(table, &error);
}

static int table_rename(sqlite3_vtab *base, const char *name)
{
    struct vec0_table *table = (struct vec0_table *)base;
    annex_error error;
    annex_status status = ANNEX_OK;

    if (!table_check_name(&table->declaration, name, &error)) {
        return vec0_fail(table, &error);
    }
    vec0_end_statements(table);
    status =
        statement_run(table->handle, &error, "ALTER TABLE \"%w\".\"%w_rows\" RENAME TO \"%w_rows\"",
                      table->schema, table->name, name);
    if (status == ANNEX_OK) {
        status = vec0_rename_indexes(table, name, &error);
    }
    return status == ANNEX_OK ? SQLITE_OK : vec0_fail(table, &error);
}

static int table_nothing(sqlite3_vtab *base)
{
    (void)base;
    return SQLITE_OK;
}

static const sqlite3_module table_module = {
    .iVersion = 2,
    .xCreate = table_create,
    .xConnect = table_connect,
    .xBestIndex = vec0_best_index,
    .xDisconnect = table_disconnect,
    .xDestroy = table_destroy,
    .xOpen = vec0_open,
    .xClose = vec0_close,
    .xFilter = vec0_filter,
    .xNext = vec0_next,
    .xEof = vec0_eof,
    .xColumn = vec0_column,
    .xRowid = vec0_rowid,
    .xUpdate = vec0_update,
    .xBegin = table_nothing,
    .xSync = vec0_sync,
    .xCommit = table_nothing,
    .xRollback = table_nothing,
    .xRename = table_rename,
};

int vec0_register(sqlite3 *handle, struct connection *connection)
{
    connection_hold(connection);
    return sqlite3_create_module_v2(handle, "vec0", &table_module, connection, connection_release);
}
