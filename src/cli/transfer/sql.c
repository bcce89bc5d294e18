/* sql.c - see sql.h. */
#include "transfer/sql.h"

#include <stdarg.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 5000

annex_status sql_error(sqlite3 *db, annex_error *error)
{
    int code = sqlite3_errcode(db) & 0xff;
    annex_status status = code == SQLITE_BUSY || code == SQLITE_LOCKED      ? ANNEX_BUSY
                          : code == SQLITE_NOMEM                            ? ANNEX_NOMEM
                          : code == SQLITE_READONLY                         ? ANNEX_READ_ONLY
                          : code == SQLITE_FULL                             ? ANNEX_FULL
                          : code == SQLITE_CORRUPT                          ? ANNEX_DAMAGED
                          : strncmp(sqlite3_errmsg(db), "no such ", 8) == 0 ? ANNEX_NOT_FOUND
                                                                            : ANNEX_HOST;
    return session_error(error, status, "the database says: %s", sqlite3_errmsg(db));
}

annex_status sql_open(const char *path, int flags, sqlite3 **db, annex_error *error)
{
    int code = sqlite3_open_v2(path, db, flags | SQLITE_OPEN_URI, NULL);
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(*db, BUSY_TIMEOUT_MS);
        return ANNEX_OK;
    }
    annex_status status = (code & 0xff) == SQLITE_CANTOPEN ? ANNEX_NOT_FOUND : ANNEX_IO;
    session_error(error, status, "cannot open %s: %s", path, sqlite3_errstr(code));
    sqlite3_close(*db);
    *db = NULL;
    return status;
}

annex_status sql_prepare_text(sqlite3 *db, sqlite3_stmt **statement, char *sql, annex_error *error)
{
    if (sql == NULL) {
        return session_error(error, ANNEX_NOMEM, "out of memory for a statement");
    }
    int code = sqlite3_prepare_v2(db, sql, -1, statement, NULL);
    sqlite3_free(sql);
    return code == SQLITE_OK ? ANNEX_OK : sql_error(db, error);
}

annex_status sql_prepare(sqlite3 *db, sqlite3_stmt **statement, annex_error *error,
                         const char *format, ...)
{
    va_list values;
    va_start(values, format);
    char *sql = sqlite3_vmprintf(format, values);
    va_end(values);
    return sql_prepare_text(db, statement, sql, error);
}

char *sql_append(char *text, const char *format, const char *name)
{
    return text == NULL ? NULL : sqlite3_mprintf(format, text, name);
}

annex_status sql_run(sqlite3 *db, annex_error *error, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? ANNEX_OK : sql_error(db, error);
}

annex_status sql_integers(sqlite3_stmt *statement, int64_t *values, int n, bool *found,
                          annex_error *error)
{
    int code = sqlite3_step(statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return sql_error(sqlite3_db_handle(statement), error);
    }
    for (int i = 0; i < n; i++) {
        values[i] = code == SQLITE_ROW ? sqlite3_column_int64(statement, i) : 0;
    }
    if (found != NULL) {
        *found = code == SQLITE_ROW;
    }
    sqlite3_reset(statement);
    return ANNEX_OK;
}

annex_status sql_has_column(sqlite3 *db, const char *schema, const char *table, const char *column,
                            bool *has, annex_error *error)
{
    sqlite3_stmt *statement = NULL;
    annex_status status =
        sql_prepare(db, &statement, error,
                    "SELECT 1 FROM pragma_table_info(%Q, %Q) WHERE name = %Q COLLATE NOCASE", table,
                    schema, column);
    *has = false;
    if (status == ANNEX_OK) {
        status = sql_integers(statement, NULL, 0, has, error);
    }
    sqlite3_finalize(statement);
    return status;
}

annex_value sql_value(sqlite3_stmt *statement, int column)
{
    annex_value value = {0};
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        value.type = ANNEX_INTEGER;
        value.integer = sqlite3_column_int64(statement, column);
        break;
    case SQLITE_FLOAT:
        value.type = ANNEX_REAL;
        value.real = sqlite3_column_double(statement, column);
        break;
    case SQLITE_TEXT:
        value.type = ANNEX_TEXT;
        value.data = sqlite3_column_text(statement, column);
        value.bytes = (size_t)sqlite3_column_bytes(statement, column);
        break;
    case SQLITE_BLOB:
        value.type = ANNEX_BLOB;
        value.data = sqlite3_column_blob(statement, column);
        value.bytes = (size_t)sqlite3_column_bytes(statement, column);
        break;
    default:
        break;
    }
    return value;
}

void sql_bind(sqlite3_stmt *statement, int parameter, const annex_value *value)
{
    switch (value->type) {
    case ANNEX_NULL:
        sqlite3_bind_null(statement, parameter);
        break;
    case ANNEX_INTEGER:
        sqlite3_bind_int64(statement, parameter, value->integer);
        break;
    case ANNEX_REAL:
        sqlite3_bind_double(statement, parameter, value->real);
        break;
    case ANNEX_TEXT:
        sqlite3_bind_text64(statement, parameter, value->data, value->bytes, SQLITE_STATIC,
                            SQLITE_UTF8);
        break;
    case ANNEX_BLOB:
        sqlite3_bind_blob64(statement, parameter, value->bytes > 0 ? value->data : "", value->bytes,
                            SQLITE_STATIC);
        break;
    }
}
