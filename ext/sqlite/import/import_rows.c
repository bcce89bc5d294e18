/*
 * import_rows.c - statements that read rows of shadow tables and write rows of the new table, for
 * both kinds of old tables.
 *
 * A vector with NaN or infinity, which no index takes, does not hold up the others: its row has
 * none in the new table.
 */
#include <math.h>
#include <string.h>

#include "sqlite/import/import.h"
#include "sqlite/statement.h"

annex_status import_prepare_shadow(struct import *import, const char *columns, const char *suffix,
                                   const char *condition, sqlite3_stmt **statement,
                                   annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    annex_status status =
        statement_prepare(import->handle, statement, &why, "SELECT %s FROM \"%w\".\"%w%w\" %s",
                          columns, import->schema, import->table, suffix, condition);

    if (status != ANNEX_OK) {
        connection_refuse(error,
                          "%s cannot be read, its content is missing or of another version: "
                          "%s",
                          import->table, why.message);
        error->status = status;
    }
    return status;
}

annex_status import_prepare(struct import *import, char *sql, sqlite3_stmt **statement,
                            annex_error *error)
{
    annex_status status = ANNEX_NOMEM;

    *statement = NULL;
    if (sql == NULL) {
        return statement_nomem(error);
    }
    status = statement_prepare(import->handle, statement, error, "%s", sql);
    sqlite3_free(sql);
    return status;
}

annex_status import_write(struct import *import, sqlite3_stmt *statement, annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    bool row;
    annex_status status = statement_step(statement, &row, &why);

    sqlite3_reset(statement);
    if (status != ANNEX_OK) {
        connection_refuse(error, "a row of %s cannot be written to %s: %s", import->table,
                          import->target, why.message);
        error->status = status;
    }
    return status;
}

bool import_bind_vector(struct import *import, sqlite3_stmt *statement, int parameter,
                        const struct vec0_column *column, const uint8_t *vector)
{
    size_t bytes = vec0_vector_bytes(column);
    bool finite = true;

    for (size_t i = 0; column->elements == VEC_F32 && i < bytes; i += sizeof(float)) {
        float element;

        memcpy(&element, vector + i, sizeof element);
        finite = finite && isfinite(element);
    }
    if (!finite) {
        import->skipped++;
        return sqlite3_bind_null(statement, parameter) == SQLITE_OK;
    }
    return sqlite3_bind_blob64(statement, parameter, vector, bytes, SQLITE_STATIC) == SQLITE_OK;
}
