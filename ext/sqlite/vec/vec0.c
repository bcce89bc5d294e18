/*
 * vec0.c - a vec0 table as every file of the module uses it: its errors, the statements that it
 * keeps, the names of its columns in SQL.
 */
#include <stdarg.h>

#include "sqlite/vec/vec0.h"

int vec0_fail(struct vec0_table *table, const annex_error *error)
{
    return connection_fail_table(&table->base, error);
}

int vec0_refuse(struct vec0_table *table, const char *format, ...)
{
    va_list arguments;

    sqlite3_free(table->base.zErrMsg);
    va_start(arguments, format);
    table->base.zErrMsg = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    return SQLITE_ERROR;
}

void vec0_append_name(sqlite3_str *sql, const struct vec0_column *column)
{
    sqlite3_str_appendf(sql, "\"%.*w\"", (int)column->name.bytes, column->name.text);
}

sqlite3_stmt *vec0_statement(struct vec0_table *table, enum vec0_statement which, char *sql,
                             annex_error *error)
{
    int code = SQLITE_NOMEM;

    if (sql != NULL) {
        code = sqlite3_prepare_v3(table->handle, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                  &table->kept[which], NULL);
        sqlite3_free(sql);
    }
    if (code != SQLITE_OK) {
        (void)statement_fail(table->handle, code, error);
    }
    return table->kept[which];
}

void vec0_end_statements(struct vec0_table *table)
{
    for (int i = 0; i < VEC0_STATEMENTS; i++) {
        sqlite3_finalize(table->kept[i]);
        table->kept[i] = NULL;
    }
}
