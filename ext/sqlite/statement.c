/*
 * statement.c - SQL that the extension itself runs: prepared, stepped, its errors.
 */
#include "sqlite/statement.h"

#include <stdarg.h>
#include <string.h>

annex_status statement_fail(sqlite3 *handle, int code, annex_error *error)
{
    /* Memory may have run out outside of SQLite's own work: then it knows of no error. */
    connection_refuse(error, "%s",
                      code == SQLITE_NOMEM ? sqlite3_errstr(code) : sqlite3_errmsg(handle));
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

annex_status statement_nomem(annex_error *error)
{
    connection_refuse(error, "out of memory");
    error->status = ANNEX_NOMEM;
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
    return sql == NULL ? statement_nomem(error) : statement_fail(handle, code, error);
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

annex_status statement_ask(sqlite3 *handle, sqlite3_stmt **statement, bool *row, const char *first,
                           const char *second, annex_error *error, const char *format, ...)
{
    va_list arguments;
    annex_status status;
    int code;
    char *sql;

    *row = false;
    va_start(arguments, format);
    sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    status = statement_prepare_text(handle, sql, statement, error);
    if (status != ANNEX_OK) {
        return status;
    }
    code = sqlite3_bind_text(*statement, 1, first, -1, SQLITE_STATIC);
    if (code == SQLITE_OK && second != NULL) {
        code = sqlite3_bind_text(*statement, 2, second, -1, SQLITE_STATIC);
    }
    return code == SQLITE_OK ? statement_step(*statement, row, error)
                             : statement_fail(handle, code, error);
}

annex_status statement_copy(sqlite3_stmt *statement, int column, char **copy, annex_error *error)
{
    const unsigned char *text = sqlite3_column_text(statement, column);

    *copy = text == NULL ? NULL : sqlite3_mprintf("%s", text);
    return *copy == NULL ? statement_nomem(error) : ANNEX_OK;
}

annex_status statement_split(sqlite3 *handle, const char *qualified, const char *schema_unless,
                             char **schema, const char **name, annex_error *error)
{
    sqlite3_stmt *statement;
    bool row;
    annex_status status =
        statement_ask(handle, &statement, &row, qualified, NULL, error,
                      "SELECT name FROM (SELECT name FROM pragma_database_list UNION SELECT 'temp')"
                      " WHERE name = substr(?1, 1, instr(?1, '.') - 1) COLLATE NOCASE");

    *schema = NULL;
    *name = qualified;
    if (status == ANNEX_OK && row) {
        status = statement_copy(statement, 0, schema, error);
        *name = strchr(qualified, '.') + 1;
    } else if (status == ANNEX_OK) {
        *schema = sqlite3_mprintf("%s", schema_unless);
        status = *schema == NULL ? statement_nomem(error) : ANNEX_OK;
    }
    sqlite3_finalize(statement);
    return status;
}
