/*
 * vec0_update.c - changes of vec0 tables: each row is one statement on t_rows, which the triggers
 * of the indexes see.
 *
 * Invariant: a change that is refused has changed nothing.
 */
#include <string.h>

#include "sqlite/vec/vec0.h"

/* ---- Statements -------------------------------------------------------------------------------*/

static char *update_insert_sql(const struct vec0_table *table, bool replace)
{
    sqlite3_str *sql = sqlite3_str_new(table->handle);

    sqlite3_str_appendf(sql, "INSERT %sINTO \"%w\".\"%w_rows\"(", replace ? "OR REPLACE " : "",
                        table->schema, table->name);
    for (size_t i = 0; i < table->declaration.n; i++) {
        sqlite3_str_appendall(sql, i == 0 ? "" : ", ");
        vec0_append_name(sql, &table->declaration.columns[i]);
    }
    sqlite3_str_appendall(sql, ") VALUES (");
    for (size_t i = 0; i < table->declaration.n; i++) {
        sqlite3_str_appendf(sql, i == 0 ? "?%d" : ", ?%d", (int)i + 1);
    }
    sqlite3_str_appendall(sql, ")");
    return sqlite3_str_finish(sql);
}

/* Sets the columns whose bits are in `changed`; the last parameter is the key of the row. */
static char *update_update_sql(const struct vec0_table *table, uint64_t changed, bool replace)
{
    sqlite3_str *sql = sqlite3_str_new(table->handle);
    const char *before = "";

    sqlite3_str_appendf(sql, "UPDATE %s\"%w\".\"%w_rows\" SET ", replace ? "OR REPLACE " : "",
                        table->schema, table->name);
    for (size_t i = 0; i < table->declaration.n; i++) {
        if ((changed >> i & 1) != 0) {
            sqlite3_str_appendall(sql, before);
            vec0_append_name(sql, &table->declaration.columns[i]);
            sqlite3_str_appendf(sql, " = ?%d", (int)i + 1);
            before = ", ";
        }
    }
    sqlite3_str_appendall(sql, " WHERE ");
    vec0_append_name(sql, &table->declaration.columns[0]);
    sqlite3_str_appendf(sql, " = ?%d", (int)table->declaration.n + 1);
    return sqlite3_str_finish(sql);
}

static char *update_delete_sql(const struct vec0_table *table)
{
    sqlite3_str *sql = sqlite3_str_new(table->handle);

    sqlite3_str_appendf(sql, "DELETE FROM \"%w\".\"%w_rows\" WHERE ", table->schema, table->name);
    vec0_append_name(sql, &table->declaration.columns[0]);
    sqlite3_str_appendall(sql, " = ?1");
    return sqlite3_str_finish(sql);
}

/*
 * Runs a statement that has its values. A row with that key that is there already is an error
 * without a code of its own, as in sqlite-vec, unless the statement of the user says what is to
 * happen then.
 */
static int update_run(struct vec0_table *table, sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);
    int reason = sqlite3_extended_errcode(table->handle);
    annex_error error;

    if (code == SQLITE_DONE) {
        table->changes++;
        code = SQLITE_OK;
    } else if (reason == SQLITE_CONSTRAINT_PRIMARYKEY || reason == SQLITE_CONSTRAINT_ROWID) {
        code = vec0_refuse(table, "UNIQUE constraint failed on %s primary key", table->name);
        code = sqlite3_vtab_on_conflict(table->handle) == SQLITE_ABORT ? code : SQLITE_CONSTRAINT;
    } else {
        (void)statement_fail(table->handle, code, &error);
        code = vec0_fail(table, &error);
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return code;
}

/* Binds a value that its column takes. */
static int update_bind(struct vec0_table *table, sqlite3_stmt *statement, size_t i,
                       sqlite3_value *value, enum vec0_use use)
{
    const struct vec0_column *column = &table->declaration.columns[i];
    struct vec_value vector;
    annex_error error;
    int code;

    if (column->role == VEC0_KEY) {
        code = vec0_check_key(table, value);
    } else if (column->role == VEC0_VECTOR) {
        if (!vec0_read_vector(column, value, use, &vector, &error)) {
            return vec0_fail(table, &error);
        }
        code = sqlite3_bind_blob64(statement, (int)i + 1, vector.elements, vector.bytes,
                                   SQLITE_TRANSIENT);
        vec_value_free(&vector);
        return code;
    } else {
        code = vec0_check_value(table, column, value);
    }
    return code == SQLITE_OK ? sqlite3_bind_value(statement, (int)i + 1, value) : code;
}

/* ---- Rows -------------------------------------------------------------------------------------*/

static int update_insert(struct vec0_table *table, sqlite3_value **values, sqlite3_int64 *rowid)
{
    const struct vec0_declaration *declaration = &table->declaration;
    bool replace = sqlite3_vtab_on_conflict(table->handle) == SQLITE_REPLACE;
    enum vec0_statement which = replace ? VEC0_REPLACE : VEC0_INSERT;
    sqlite3_stmt *statement = table->kept[which];
    sqlite3_value *key = values[2];
    annex_error error;
    int code = SQLITE_OK;

    if (statement == NULL) {
        statement = vec0_statement(table, which, update_insert_sql(table, replace), &error);
    }
    if (statement == NULL) {
        return vec0_fail(table, &error);
    }
    if (!vec0_key_is_text(table) && sqlite3_value_type(key) == SQLITE_NULL) {
        key = values[1]; /* given as rowid, under another name */
    }
    for (size_t i = 0; i < declaration->n && code == SQLITE_OK; i++) {
        code = update_bind(table, statement, i, i == 0 ? key : values[2 + i], VEC0_INSERTED);
    }
    if (code != SQLITE_OK) {
        sqlite3_clear_bindings(statement);
        return code;
    }
    code = update_run(table, statement);
    if (code == SQLITE_OK) {
        *rowid = sqlite3_last_insert_rowid(table->handle);
    }
    return code;
}

/* The new key of an UPDATE, NULL when it stays. */
static sqlite3_value *update_new_key(const struct vec0_table *table, sqlite3_value **values)
{
    if (!sqlite3_value_nochange(values[2])) {
        return values[2];
    }
    if (!vec0_key_is_text(table) &&
        sqlite3_value_int64(values[1]) != sqlite3_value_int64(values[0])) {
        return values[1];
    }
    return NULL;
}

/* The statement that sets these columns. The top bit of `updated` tells the two kinds apart. */
static sqlite3_stmt *update_statement(struct vec0_table *table, uint64_t changed, bool replace,
                                      annex_error *error)
{
    uint64_t updated = changed | (uint64_t)replace << 63;

    if (table->kept[VEC0_UPDATE] != NULL && table->updated == updated) {
        return table->kept[VEC0_UPDATE];
    }
    sqlite3_finalize(table->kept[VEC0_UPDATE]);
    table->kept[VEC0_UPDATE] = NULL;
    table->updated = updated;
    return vec0_statement(table, VEC0_UPDATE, update_update_sql(table, changed, replace), error);
}

static int update_update(struct vec0_table *table, sqlite3_value **values)
{
    const struct vec0_declaration *declaration = &table->declaration;
    bool replace = sqlite3_vtab_on_conflict(table->handle) == SQLITE_REPLACE;
    sqlite3_value *key = update_new_key(table, values);
    uint64_t changed = key != NULL;
    sqlite3_stmt *statement;
    annex_error error;
    int code;

    for (size_t i = 1; i < declaration->n; i++) {
        changed |= (uint64_t)!sqlite3_value_nochange(values[2 + i]) << i;
    }
    if (changed == 0) {
        return SQLITE_OK;
    }
    statement = update_statement(table, changed, replace, &error);
    if (statement == NULL) {
        return vec0_fail(table, &error);
    }
    code = sqlite3_bind_value(statement, (int)declaration->n + 1, values[0]);
    for (size_t i = 0; i < declaration->n && code == SQLITE_OK; i++) {
        if ((changed >> i & 1) != 0) {
            code = update_bind(table, statement, i, i == 0 ? key : values[2 + i], VEC0_UPDATED);
        }
    }
    if (code != SQLITE_OK) {
        sqlite3_clear_bindings(statement);
        return code;
    }
    return update_run(table, statement);
}

static int update_delete(struct vec0_table *table, sqlite3_value *key)
{
    sqlite3_stmt *statement = table->kept[VEC0_DELETE];
    annex_error error;
    int code;

    if (statement == NULL) {
        statement = vec0_statement(table, VEC0_DELETE, update_delete_sql(table), &error);
    }
    if (statement == NULL) {
        return vec0_fail(table, &error);
    }
    code = sqlite3_bind_value(statement, 1, key);
    return code == SQLITE_OK ? update_run(table, statement) : code;
}

static int update_command(struct vec0_table *table, sqlite3_value *command)
{
    const char *text = (const char *)sqlite3_value_text(command);
    annex_error error;

    if (text == NULL || strcmp(text, "optimize") != 0) {
        return vec0_refuse(table, "unknown vec0 command: '%s'", text == NULL ? "" : text);
    }
    return vec0_optimize_indexes(table, &error) == ANNEX_OK ? SQLITE_OK : vec0_fail(table, &error);
}

/* ---- xUpdate ----------------------------------------------------------------------------------*/

static int update_refuse_hidden(struct vec0_table *table, sqlite3_value **hidden)
{
    if (sqlite3_value_type(hidden[VEC0_COLUMN_DISTANCE]) != SQLITE_NULL) {
        return vec0_refuse(table, "A value was provided for the hidden \"distance\" column.");
    }
    if (sqlite3_value_type(hidden[VEC0_COLUMN_K]) != SQLITE_NULL) {
        return vec0_refuse(table, "A value was provided for the hidden \"k\" column.");
    }
    return SQLITE_OK;
}

int vec0_update(sqlite3_vtab *base, int n, sqlite3_value **values, sqlite3_int64 *rowid)
{
    struct vec0_table *table = (struct vec0_table *)base;
    sqlite3_value **hidden;
    int code;

    if (n == 1) {
        return update_delete(table, values[0]);
    }
    hidden = values + 2 + table->declaration.n;
    if (sqlite3_value_type(values[0]) != SQLITE_NULL) {
        return update_update(table, values);
    }
    if (sqlite3_value_type(hidden[VEC0_COLUMN_COMMAND]) != SQLITE_NULL) {
        return update_command(table, hidden[VEC0_COLUMN_COMMAND]);
    }
    code = update_refuse_hidden(table, hidden);
    return code == SQLITE_OK ? update_insert(table, values, rowid) : code;
}
