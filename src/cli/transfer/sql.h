/*
 * sql.h - a SQLite database as export and import use it: statements over names that somebody
 * typed. Names are given to %w inside double quotes, never otherwise.
 */
#ifndef ANNEX_CLI_SQL_H
#define ANNEX_CLI_SQL_H

#include <sqlite3.h>

#include "session.h"

/* flags as sqlite3_open_v2 takes them. *db is NULL after an error. */
annex_status sql_open(const char *path, int flags, sqlite3 **db, annex_error *error);
/* What went wrong in `db`, as an error. Always a failure. */
annex_status sql_error(sqlite3 *db, annex_error *error);
/* `format` as sqlite3_mprintf takes it. */
annex_status sql_prepare(sqlite3 *db, sqlite3_stmt **statement, annex_error *error,
                         const char *format, ...);
/* Prepares a text that sqlite3_mprintf has made, and frees it; NULL: no memory. */
annex_status sql_prepare_text(sqlite3 *db, sqlite3_stmt **statement, char *sql, annex_error *error);
/*
 * A text of sqlite3_mprintf made longer: `format` begins with %z, which takes `text` over. NULL
 * stays NULL: no memory.
 */
char *sql_append(char *text, const char *format, const char *name);
annex_status sql_run(sqlite3 *db, annex_error *error, const char *sql);
/* One row of integers, 0 for what is NULL or when there is no row; found may be NULL. */
annex_status sql_integers(sqlite3_stmt *statement, int64_t *values, int n, bool *found,
                          annex_error *error);

annex_status sql_has_column(sqlite3 *db, const char *schema, const char *table, const char *column,
                            bool *has, annex_error *error);

annex_value sql_value(sqlite3_stmt *statement, int column);
/* Binds what lives until the next step. */
void sql_bind(sqlite3_stmt *statement, int parameter, const annex_value *value);

#endif
