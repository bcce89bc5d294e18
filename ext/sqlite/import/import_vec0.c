/*
 * import_vec0.c - the rows of a vec0 table. With NN the number of a column among its role:
 *
 *   NAME_rowids(rowid, id, chunk_id, chunk_offset)   every row, its text key, where it lies
 *   NAME_chunks(chunk_id, size, validity, rowids, partitionNN)    places for `size` rows each
 *   NAME_vector_chunksNN(rowid, vectors)       of a chunk: `size` vectors
 *   NAME_metadatachunksNN(rowid, data)         of a chunk: `size` values, see chunk_bind_metadata
 *   NAME_metadatatextNN(rowid, data)           of a row: text longer than 12 bytes
 *   NAME_auxiliary(rowid, valueNN)             of a row: its auxiliary columns
 *
 * Rows are read chunk by chunk, so that each blob, of some megabytes, is read once. The vec0 tables
 * that Annex itself makes (vec0.h) have one ordinary table instead, NAME_rows, of the same columns.
 */
#include <string.h>

#include "sqlite/import/import.h"
#include "sqlite/statement.h"

#define CHUNK_MAX_ROWS 65536
#define CHUNK_TEXT_BYTES 16 /* length as i32, and up to so many bytes less four */
#define CHUNK_SHORT_TEXT 12

/* A column on its way. */
struct chunk_column {
    sqlite3_stmt *chunk; /* the blob of a chunk, by ?1 */
    sqlite3_stmt *text;  /* long text of a row, by ?1 */
    const uint8_t *data; /* of the chunk that is read */
};

struct chunk_copy {
    struct import *import;
    sqlite3_stmt *rows;
    sqlite3_stmt *insert;
    sqlite3_stmt *chunk;
    sqlite3_stmt *auxiliary;
    struct chunk_column columns[VEC0_MAX_COLUMNS];
    bool has_chunk;
    sqlite3_int64 chunk_id;
    size_t size;
    const uint8_t *validity;
    const uint8_t *rowids;
};

static uint64_t chunk_u64(const uint8_t *bytes)
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value;
}

/* ---- Statements -------------------------------------------------------------------------------*/

static void chunk_close(struct chunk_copy *copy)
{
    sqlite3_finalize(copy->rows);
    sqlite3_finalize(copy->insert);
    sqlite3_finalize(copy->chunk);
    sqlite3_finalize(copy->auxiliary);
    for (size_t i = 0; i < VEC0_MAX_COLUMNS; i++) {
        sqlite3_finalize(copy->columns[i].chunk);
        sqlite3_finalize(copy->columns[i].text);
    }
}

/* SELECT `what` of the shadow table `name` NN, of the row ?1. */
static annex_status chunk_open_numbered(struct import *import, const char *what, const char *name,
                                        size_t number, sqlite3_stmt **statement, annex_error *error)
{
    char suffix[32];

    sqlite3_snprintf(sizeof suffix, suffix, "_%s%02d", name, (int)number);
    return import_prepare_shadow(import, what, suffix, "WHERE rowid = ?1", statement, error);
}

static annex_status chunk_open_columns(struct chunk_copy *copy, annex_error *error)
{
    struct import *import = copy->import;
    annex_status status = ANNEX_OK;

    for (size_t i = 0; status == ANNEX_OK && i < import->declaration.n; i++) {
        const struct vec0_column *column = &import->declaration.columns[i];
        struct chunk_column *reader = &copy->columns[i];

        if (column->role == VEC0_VECTOR) {
            status = chunk_open_numbered(import, "vectors", "vector_chunks", column->number,
                                         &reader->chunk, error);
        } else if (column->role == VEC0_METADATA) {
            status = chunk_open_numbered(import, "data", "metadatachunks", column->number,
                                         &reader->chunk, error);
            if (status == ANNEX_OK && column->type == VEC0_TEXT) {
                status = chunk_open_numbered(import, "data", "metadatatext", column->number,
                                             &reader->text, error);
            }
        }
    }
    return status;
}

/* "partition00, partition01" and the like: the columns of a role that a shadow table has. */
static char *chunk_list(struct chunk_copy *copy, const char *first, const char *name,
                        enum vec0_role role)
{
    sqlite3_str *list = sqlite3_str_new(copy->import->handle);

    sqlite3_str_appendall(list, first);
    for (size_t i = 0; i < copy->import->declaration.counts[role]; i++) {
        sqlite3_str_appendf(list, ", %s%02d", name, (int)i);
    }
    return sqlite3_str_finish(list);
}

static annex_status chunk_open_lists(struct chunk_copy *copy, annex_error *error)
{
    char *chunk = chunk_list(copy, "size, validity, rowids", "partition", VEC0_PARTITION);
    char *auxiliary = chunk_list(copy, "rowid", "value", VEC0_AUXILIARY);
    annex_status status = ANNEX_OK;

    if (chunk == NULL || auxiliary == NULL) {
        status = statement_nomem(error);
    }
    if (status == ANNEX_OK) {
        status = import_prepare_shadow(copy->import, chunk, "_chunks", "WHERE chunk_id = ?1",
                                       &copy->chunk, error);
    }
    if (status == ANNEX_OK && copy->import->declaration.counts[VEC0_AUXILIARY] > 0) {
        status = import_prepare_shadow(copy->import, auxiliary, "_auxiliary", "WHERE rowid = ?1",
                                       &copy->auxiliary, error);
    }
    sqlite3_free(chunk);
    sqlite3_free(auxiliary);
    return status;
}

static annex_status chunk_open_insert(struct chunk_copy *copy, annex_error *error)
{
    struct import *import = copy->import;
    sqlite3_str *sql = sqlite3_str_new(import->handle);

    sqlite3_str_appendf(sql, "INSERT INTO \"%w\".\"%w\" VALUES (", import->target_schema,
                        import->target);
    for (size_t i = 0; i < import->declaration.n; i++) {
        sqlite3_str_appendf(sql, "%s?%d", i > 0 ? ", " : "", (int)i + 1);
    }
    sqlite3_str_appendall(sql, ")");
    return import_prepare(import, sqlite3_str_finish(sql), &copy->insert, error);
}

static annex_status chunk_open(struct chunk_copy *copy, annex_error *error)
{
    annex_status status =
        import_prepare_shadow(copy->import, "rowid, id, chunk_id, chunk_offset", "_rowids",
                              "ORDER BY chunk_id, chunk_offset", &copy->rows, error);

    if (status == ANNEX_OK) {
        status = chunk_open_lists(copy, error);
    }
    if (status == ANNEX_OK) {
        status = chunk_open_columns(copy, error);
    }
    return status == ANNEX_OK ? chunk_open_insert(copy, error) : status;
}

/* ---- Chunks -----------------------------------------------------------------------------------*/

/* What was read last is not as it should be, or could not be read at all. */
static annex_status chunk_damaged(struct chunk_copy *copy, const char *what, annex_error *error)
{
    int code = sqlite3_errcode(copy->import->handle);

    if (code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE) {
        return statement_fail(copy->import->handle, code, error);
    }
    connection_refuse(error,
                      "%s is damaged: %s of chunk %lld, row %lld; nothing was imported, the rows "
                      "that sqlite-vec still reads can be copied with INSERT INTO ... SELECT",
                      copy->import->table, what, (long long)sqlite3_column_int64(copy->rows, 2),
                      (long long)sqlite3_column_int64(copy->rows, 0));
    error->status = ANNEX_DAMAGED;
    return error->status;
}

/* Steps to the row of `statement` for `id`; *data is column `column`, a blob of `bytes`. */
static bool chunk_fetch(sqlite3_stmt *statement, sqlite3_int64 id, int column, size_t bytes,
                        const uint8_t **data)
{
    *data = NULL;
    sqlite3_reset(statement);
    sqlite3_bind_int64(statement, 1, id);
    if (sqlite3_step(statement) != SQLITE_ROW ||
        sqlite3_column_type(statement, column) != SQLITE_BLOB) {
        return false;
    }
    *data = sqlite3_column_blob(statement, column);
    return *data != NULL && (size_t)sqlite3_column_bytes(statement, column) == bytes;
}

/* Bytes that a column takes in a chunk of `size` rows. */
static size_t chunk_bytes(const struct vec0_column *column, size_t size)
{
    if (column->role == VEC0_VECTOR) {
        return size * vec0_vector_bytes(column);
    }
    return column->type == VEC0_BOOLEAN ? size / 8
           : column->type == VEC0_TEXT  ? size * CHUNK_TEXT_BYTES
                                        : size * 8;
}

static annex_status chunk_read(struct chunk_copy *copy, annex_error *error)
{
    sqlite3_int64 id = sqlite3_column_int64(copy->rows, 2);
    sqlite3_int64 size;

    copy->has_chunk = true;
    copy->chunk_id = id;
    sqlite3_reset(copy->chunk);
    sqlite3_bind_int64(copy->chunk, 1, id);
    if (sqlite3_step(copy->chunk) != SQLITE_ROW) {
        return chunk_damaged(copy, "there is no row", error);
    }
    size = sqlite3_column_int64(copy->chunk, 0);
    if (size <= 0 || size > CHUNK_MAX_ROWS || size % 8 != 0) {
        return chunk_damaged(copy, "the size", error);
    }
    copy->size = (size_t)size;
    copy->validity = sqlite3_column_blob(copy->chunk, 1);
    copy->rowids = sqlite3_column_blob(copy->chunk, 2);
    if ((size_t)sqlite3_column_bytes(copy->chunk, 1) != copy->size / 8 ||
        (size_t)sqlite3_column_bytes(copy->chunk, 2) != copy->size * 8) {
        return chunk_damaged(copy, "the list of rows", error);
    }
    for (size_t i = 0; i < copy->import->declaration.n; i++) {
        const struct vec0_column *column = &copy->import->declaration.columns[i];

        if (copy->columns[i].chunk != NULL &&
            !chunk_fetch(copy->columns[i].chunk, id, 0, chunk_bytes(column, copy->size),
                         &copy->columns[i].data)) {
            return chunk_damaged(copy, column->role == VEC0_VECTOR ? "the vectors" : "the metadata",
                                 error);
        }
    }
    return ANNEX_OK;
}

/* ---- Rows -------------------------------------------------------------------------------------*/

/* Text of up to 12 bytes lies in the chunk, longer text in a table of its own. */
static bool chunk_bind_text(struct chunk_copy *copy, const struct chunk_column *reader,
                            size_t place, int parameter)
{
    const uint8_t *data = reader->data + place * CHUNK_TEXT_BYTES;
    uint64_t bytes = chunk_u64(data) & UINT32_MAX;

    if (bytes <= CHUNK_SHORT_TEXT) {
        return sqlite3_bind_text(copy->insert, parameter, (const char *)data + 4, (int)bytes,
                                 SQLITE_STATIC) == SQLITE_OK;
    }
    sqlite3_reset(reader->text);
    sqlite3_bind_int64(reader->text, 1, sqlite3_column_int64(copy->rows, 0));
    if (sqlite3_step(reader->text) != SQLITE_ROW ||
        sqlite3_column_type(reader->text, 0) != SQLITE_TEXT) {
        return false;
    }
    return sqlite3_bind_value(copy->insert, parameter, sqlite3_column_value(reader->text, 0)) ==
           SQLITE_OK;
}

static bool chunk_bind_metadata(struct chunk_copy *copy, const struct vec0_column *column,
                                const struct chunk_column *reader, size_t place, int parameter)
{
    uint64_t bits;
    double real;

    if (column->type == VEC0_TEXT) {
        return chunk_bind_text(copy, reader, place, parameter);
    }
    if (column->type == VEC0_BOOLEAN) {
        sqlite3_bind_int(copy->insert, parameter, reader->data[place / 8] >> place % 8 & 1);
        return true;
    }
    bits = chunk_u64(reader->data + 8 * place);
    if (column->type == VEC0_INTEGER) {
        sqlite3_bind_int64(copy->insert, parameter, (sqlite3_int64)bits);
    } else {
        memcpy(&real, &bits, sizeof real);
        sqlite3_bind_double(copy->insert, parameter, real);
    }
    return true;
}

static bool chunk_bind(struct chunk_copy *copy, size_t i, size_t place)
{
    const struct vec0_column *column = &copy->import->declaration.columns[i];
    const struct chunk_column *reader = &copy->columns[i];
    int parameter = (int)i + 1;
    sqlite3_value *value;

    switch (column->role) {
    case VEC0_VECTOR:
        return import_bind_vector(copy->import, copy->insert, parameter, column,
                                  reader->data + place * vec0_vector_bytes(column));
    case VEC0_METADATA:
        return chunk_bind_metadata(copy, column, reader, place, parameter);
    case VEC0_PARTITION:
        value = sqlite3_column_value(copy->chunk, (int)column->number + 3);
        break;
    case VEC0_AUXILIARY:
        value = sqlite3_column_value(copy->auxiliary, (int)column->number + 1);
        break;
    case VEC0_KEY:
        value = sqlite3_column_value(copy->rows, column->type == VEC0_TEXT ? 1 : 0);
    }
    return sqlite3_bind_value(copy->insert, parameter, value) == SQLITE_OK;
}

static annex_status chunk_copy_row(struct chunk_copy *copy, annex_error *error)
{
    sqlite3_int64 rowid = sqlite3_column_int64(copy->rows, 0);
    sqlite3_int64 place = sqlite3_column_int64(copy->rows, 3);
    annex_status status = ANNEX_OK;

    if (!copy->has_chunk || copy->chunk_id != sqlite3_column_int64(copy->rows, 2)) {
        status = chunk_read(copy, error);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    if (place < 0 || (size_t)place >= copy->size ||
        (copy->validity[place / 8] >> place % 8 & 1) == 0 ||
        (sqlite3_int64)chunk_u64(copy->rowids + 8 * place) != rowid) {
        return chunk_damaged(copy, "the list of rows", error);
    }
    if (copy->auxiliary != NULL) {
        sqlite3_reset(copy->auxiliary);
        sqlite3_bind_int64(copy->auxiliary, 1, rowid);
        if (sqlite3_step(copy->auxiliary) != SQLITE_ROW) {
            return chunk_damaged(copy, "the auxiliary columns", error);
        }
    }
    for (size_t i = 0; i < copy->import->declaration.n; i++) {
        if (!chunk_bind(copy, i, (size_t)place)) {
            return chunk_damaged(copy, "the text", error);
        }
    }
    return import_write(copy->import, copy->insert, error);
}

static annex_status chunk_copy_all(struct import *import, annex_error *error)
{
    struct chunk_copy *copy = sqlite3_malloc64(sizeof *copy);
    annex_status status;
    bool row = true;

    if (copy == NULL) {
        return statement_nomem(error);
    }
    memset(copy, 0, sizeof *copy);
    copy->import = import;
    status = chunk_open(copy, error);
    while (status == ANNEX_OK && row) {
        status = statement_step(copy->rows, &row, error);
        if (status == ANNEX_OK && row) {
            status = chunk_copy_row(copy, error);
            import->rows++;
        }
    }
    chunk_close(copy);
    sqlite3_free(copy);
    return status;
}

/* ---- Tables that Annex made -------------------------------------------------------------------*/

static annex_status rows_exist(struct import *import, bool *exist, annex_error *error)
{
    sqlite3_stmt *statement;
    annex_status status =
        statement_prepare(import->handle, &statement, error,
                          "SELECT 1 FROM \"%w\".sqlite_schema WHERE name = '%q_rows' AND NOT EXISTS"
                          " (SELECT 1 FROM \"%w\".sqlite_schema WHERE name = '%q_chunks')",
                          import->schema, import->table, import->schema, import->table);

    *exist = false;
    if (status == ANNEX_OK) {
        status = statement_step(statement, exist, error);
    }
    sqlite3_finalize(statement);
    return status;
}

/* INSERT INTO the new table, column by column in the order of the declaration. */
static annex_status rows_copy_all(struct import *import, annex_error *error)
{
    const struct vec0_declaration *declaration = &import->declaration;
    sqlite3_str *sql = sqlite3_str_new(import->handle);
    sqlite3_stmt *statement = NULL;
    annex_status status;

    sqlite3_str_appendf(sql, "INSERT INTO \"%w\".\"%w\" SELECT ", import->target_schema,
                        import->target);
    for (size_t i = 0; i < declaration->n; i++) {
        const struct piece *name = &declaration->columns[i].name;

        sqlite3_str_appendf(sql, "%s\"%.*w\"", i > 0 ? ", " : "", (int)name->bytes, name->text);
    }
    sqlite3_str_appendf(sql, " FROM \"%w\".\"%w_rows\"", import->schema, import->table);
    status = import_prepare(import, sqlite3_str_finish(sql), &statement, error);
    if (status == ANNEX_OK) {
        status = import_write(import, statement, error);
    }
    if (status == ANNEX_OK) {
        import->rows = (uint64_t)sqlite3_changes(import->handle);
    }
    sqlite3_finalize(statement);
    return status;
}

/* Such a column keeps vectors in other tables than those read here. */
static annex_status chunk_refuse_approximate(struct import *import, annex_error *error)
{
    for (size_t i = 0; i < import->declaration.n; i++) {
        const struct vec0_column *column = &import->declaration.columns[i];

        if (column->role == VEC0_VECTOR && column->approximate) {
            connection_refuse(
                error,
                "%s.%.*s is INDEXED BY something else than flat(), which annex_import "
                "does not read; copy the rows with INSERT INTO ... SELECT",
                import->table, (int)column->name.bytes, column->name.text);
            error->status = ANNEX_UNSUPPORTED;
            return error->status;
        }
    }
    return ANNEX_OK;
}

annex_status import_vec0_copy(struct import *import, annex_error *error)
{
    bool ours;
    annex_status status = rows_exist(import, &ours, error);

    if (status != ANNEX_OK) {
        return status;
    }
    if (ours) {
        return rows_copy_all(import, error);
    }
    status = chunk_refuse_approximate(import, error);
    return status == ANNEX_OK ? chunk_copy_all(import, error) : status;
}
