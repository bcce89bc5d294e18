/*
 * statement.h - SQL that the extension itself runs on the connection it was loaded into.
 *
 * Formats are those of sqlite3_mprintf: names of tables and columns are always "%w". Errors of
 * SQLite become an annex_error with its words; who knows more puts a sentence around them.
 */
#ifndef ANNEX_STATEMENT_H
#define ANNEX_STATEMENT_H

#include "sqlite/extension.h"

/* *statement is NULL on error. Ended by sqlite3_finalize. */
annex_status statement_prepare(sqlite3 *handle, sqlite3_stmt **statement, annex_error *error,
                               const char *format, ...);
/* *row: whether there is one. */
annex_status statement_step(sqlite3_stmt *statement, bool *row, annex_error *error);
/* Runs SQL that yields no rows. */
annex_status statement_run(sqlite3 *handle, annex_error *error, const char *format, ...);
/* A result code of SQLite, other than SQLITE_OK, as an error. */
annex_status statement_fail(sqlite3 *handle, int code, annex_error *error);
/*
 * Prepares, binds ?1 and, unless it is NULL, ?2, which outlive the statement, and takes the first
 * step. The statement is to be ended also after an error; *row is then false.
 */
annex_status statement_ask(sqlite3 *handle, sqlite3_stmt **statement, bool *row, const char *first,
                           const char *second, annex_error *error, const char *format, ...);
/* *copy = a column that is not NULL as text, for sqlite3_free. */
annex_status statement_copy(sqlite3_stmt *statement, int column, char **copy, annex_error *error);
/* Always ANNEX_NOMEM. */
annex_status statement_nomem(annex_error *error);

/*
 * "aux.docs" apart, when there is such a schema: *schema is its name, for sqlite3_free, and *name
 * what follows the dot, in `qualified`. Otherwise *schema is a copy of `schema_unless`.
 */
annex_status statement_split(sqlite3 *handle, const char *qualified, const char *schema_unless,
                             char **schema, const char **name, annex_error *error);

#endif
