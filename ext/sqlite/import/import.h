/*
 * import.h - what the files of annex_import share.
 */
#ifndef ANNEX_IMPORT_H
#define ANNEX_IMPORT_H

#include "sqlite/extension.h"
#include "sqlite/import/import_declaration.h"

/* One call of annex_import. */
struct import {
    sqlite3 *handle;
    annex_db *annex;
    char *schema; /* of the virtual table */
    char *table;
    char *target_schema; /* of the new table */
    const char *target;
    const char *options;
    char *sql; /* that declares the virtual table; names are pieces of it */
    enum import_module module;
    struct vec0_declaration declaration;
    uint64_t rows;
    uint64_t skipped; /* vectors left out: of rows that there are not, or not finite */
    char *report;     /* JSON */
};

/* ---- import_vec0.c, import_vss0.c -------------------------------------------------------------*/

/*
 * Both fill the new table, whose columns are those of the declaration. The error is a whole
 * sentence.
 */
annex_status import_vec0_copy(struct import *import, annex_error *error);
annex_status import_vss0_copy(struct import *import, annex_error *error);

/* ---- import_rows.c ----------------------------------------------------------------------------*/

/*
 * Prepares SQL in which the shadow table `suffix` stands as "%w"."%w%s". Says which table is not
 * as it should be when that fails.
 */
annex_status import_prepare_shadow(struct import *import, const char *columns, const char *suffix,
                                   const char *condition, sqlite3_stmt **statement,
                                   annex_error *error);
/* The INSERT or UPDATE of the new table in `sql`, which is freed. NULL: no memory. */
annex_status import_prepare(struct import *import, char *sql, sqlite3_stmt **statement,
                            annex_error *error);
/* Binds a vector, aligned or not; NULL, counted as skipped, when it is not finite. */
bool import_bind_vector(struct import *import, sqlite3_stmt *statement, int parameter,
                        const struct vec0_column *column, const uint8_t *vector);
/* Steps a statement that yields no row and makes it ready for the next. */
annex_status import_write(struct import *import, sqlite3_stmt *statement, annex_error *error);

#endif
