/*
 * statement.c - SQL that the extension itself runs: prepared, stepped, its errors.
 */
#include "statement.h"

#include <stdarg.h>

annex_status statement_fail(sqlite3 *handle, int code, annex_error *error)
{
    connection_refuse(error, "%s", sqlite3_errmsg(handle));
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        error->status = ANNEX_NOMEM;
        break;
    case SQLITE_INTERRUPT:
        error->status = ANNEX_CANCELLED;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        error->status = ANNEX_BUSY;
        break;
    case SQLITE_READONLY:
        error->status = ANNEX_READ_ONLY;
        break;
    default:
        error->status = ANNEX_HOST;
    }
    return error->status;
}

static annex_status statement_prepare_text(sqlite3 *handle, char *sql, sqlite3_stmt **statement,
                                           annex_error *error)
{
    int code = SQLITE_NOMEM;

    *statement = NULL;
    if (sql != NULL) {
        code = sqlite3_prepare_v2(handle, sql, -1, statement, NULL);
        sqlite3_free(sql);
    }
    if (code == SQLITE_OK) {
        return ANNEX_OK;
    }
    statement_fail(handle, code, error);
    if (sql == NULL) {
        connection_refuse(error, "out of memory");
        error->status = ANNEX_NOMEM;
    }
    return error->status;
}

annex_status statement_prepare(sqlite3 *handle, sqlite3_stmt **statement, annex_error *error,
                               const char *format, ...)
{
    va_list arguments;
    char *sql;

    va_start(arguments, format);
    sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    return statement_prepare_text(handle, sql, statement, error);
}

annex_status statement_step(sqlite3_stmt *statement, bool *row, annex_error *error)
{
    int code = sqlite3_step(statement);

    *row = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE) {
        return ANNEX_OK;
    }
    return statement_fail(sqlite3_db_handle(statement), code, error);
}

annex_status statement_run(sqlite3 *handle, annex_error *error, const char *format, ...)
{
    sqlite3_stmt *statement;
    va_list arguments;
    annex_status status;
    bool row;
    char *sql;

    va_start(arguments, format);
    sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    status = statement_prepare_text(handle, sql, &statement, error);
    if (status == ANNEX_OK) {
        status = statement_step(statement, &row, error);
    }
    sqlite3_finalize(statement);
    return status;
}

annex_status statement_bind_text(sqlite3_stmt *statement, int parameter, const char *text,
                                 annex_error *error)
{
    int code = sqlite3_bind_text(statement, parameter, text, -1, SQLITE_STATIC);

    return code == SQLITE_OK ? ANNEX_OK : statement_fail(sqlite3_db_handle(statement), code, error);
}
