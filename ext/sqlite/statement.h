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
/* Binds text that outlives the statement. */
annex_status statement_bind_text(sqlite3_stmt *statement, int parameter, const char *text,
                                 annex_error *error);
/* Up to two texts bound, and the first step. */
annex_status statement_ask(sqlite3_stmt *statement, const char *first, const char *second,
                           bool *row, annex_error *error);
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
