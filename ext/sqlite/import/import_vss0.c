/*
 * import_vss0.c - the rows of a vss0 table: NAME_data has a row for each, NAME_index for each
 * column a serialised FAISS index with the vectors and their rowids.
 */
#include <string.h>

#include "sqlite/import/import.h"
#include "sqlite/import/import_faiss.h"
#include "sqlite/statement.h"

/* One column on its way. */
struct vss0_copy {
    struct import *import;
    const struct vec0_column *column;
    sqlite3_stmt *update;
    annex_error *error;
    annex_status status;
};

static bool vss0_copy_vector(void *context, int64_t id, const uint8_t *vector)
{
    struct vss0_copy *copy = context;
    uint64_t skipped = copy->import->skipped;

    sqlite3_bind_int64(copy->update, 1, id);
    import_bind_vector(copy->import, copy->update, 2, copy->column, vector);
    copy->status = import_write(copy->import, copy->update, copy->error);
    if (sqlite3_changes(copy->import->handle) == 0) {
        copy->import->skipped = skipped + 1; /* whether it is finite or not */
    }
    return copy->status == ANNEX_OK;
}

static annex_status vss0_refuse(struct import *import, const struct vec0_column *column,
                                const char *why, annex_error *error)
{
    connection_refuse(error,
                      "the FAISS index of %s.%.*s is %s; copy the vectors from where they came, "
                      "annex_create makes an index of any column",
                      import->table, (int)column->name.bytes, column->name.text, why);
    error->status = ANNEX_UNSUPPORTED;
    return error->status;
}

static annex_status vss0_copy_blob(struct import *import, struct vec0_column *column,
                                   sqlite3_stmt *statement, annex_error *error)
{
    struct vss0_copy copy = {import, column, NULL, error, ANNEX_OK};
    const uint8_t *blob = sqlite3_column_blob(statement, 0);
    size_t bytes = (size_t)sqlite3_column_bytes(statement, 0);
    struct faiss_vectors vectors;
    const char *why;

    if (!faiss_vectors_read(blob, bytes, &vectors, &why)) {
        return vss0_refuse(import, column, why, error);
    }
    if (vectors.dimension != column->dimension) {
        return vss0_refuse(import, column, "of another dimension than the table", error);
    }
    column->metric = vectors.metric;
    copy.status =
        import_prepare(import,
                       sqlite3_mprintf("UPDATE \"%w\".\"%w\" SET \"%.*w\" = ?2 WHERE rowid = ?1",
                                       import->target_schema, import->target,
                                       (int)column->name.bytes, column->name.text),
                       &copy.update, error);
    if (copy.status == ANNEX_OK && !faiss_vectors_each(&vectors, vss0_copy_vector, &copy) &&
        copy.status == ANNEX_OK) {
        copy.status = vss0_refuse(import, column, "damaged: a vector has no id", error);
    }
    sqlite3_finalize(copy.update);
    return copy.status;
}

static annex_status vss0_copy_column(struct import *import, struct vec0_column *column,
                                     annex_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool row = false;
    annex_status status =
        import_prepare_shadow(import, "idx", "_index", "WHERE rowid = ?1", &statement, error);

    if (status == ANNEX_OK) {
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)column->number);
        status = statement_step(statement, &row, error);
    }
    if (status == ANNEX_OK && (!row || sqlite3_column_type(statement, 0) != SQLITE_BLOB)) {
        status = vss0_refuse(import, column, "not in the database", error);
    }
    if (status == ANNEX_OK) {
        status = vss0_copy_blob(import, column, statement, error);
    }
    sqlite3_finalize(statement);
    return status;
}

/* Every row, without vectors yet. */
static annex_status vss0_copy_rowids(struct import *import, annex_error *error)
{
    sqlite3_stmt *rows = NULL;
    sqlite3_stmt *insert = NULL;
    bool row = true;
    annex_status status =
        import_prepare_shadow(import, "rowid", "_data", "ORDER BY rowid", &rows, error);

    if (status == ANNEX_OK) {
        status = import_prepare(import,
                                sqlite3_mprintf("INSERT INTO \"%w\".\"%w\"(rowid) VALUES (?1)",
                                                import->target_schema, import->target),
                                &insert, error);
    }
    while (status == ANNEX_OK) {
        status = statement_step(rows, &row, error);
        if (status != ANNEX_OK || !row) {
            break;
        }
        sqlite3_bind_int64(insert, 1, sqlite3_column_int64(rows, 0));
        status = import_write(import, insert, error);
        import->rows++;
    }
    sqlite3_finalize(rows);
    sqlite3_finalize(insert);
    return status;
}

annex_status import_vss0_copy(struct import *import, annex_error *error)
{
    annex_status status = vss0_copy_rowids(import, error);

    for (size_t i = 1; status == ANNEX_OK && i < import->declaration.n; i++) {
        status = vss0_copy_column(import, &import->declaration.columns[i], error);
    }
    return status;
}
