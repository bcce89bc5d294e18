/*
 * source.c - the table that is indexed: its rows as a stream for a build, and the current vector of
 * a row by its key.
 *
 * Invariants
 *   1. Only SELECT is ever run on the table.
 *   2. A row is in the index when it fulfils the condition, its key has no NULL and its vector is
 *      good. A scan is strict (a bad row is an error) or leaves bad rows out and counts them.
 *   3. Text is compared byte for byte, whatever the collation of the key column.
 */
#include "catalog/catalog.h"

enum { SOURCE_BATCH_BYTES = 1 << 19, SOURCE_BATCH_ROWS = 1024 };

/*
 * Columns are always named with their table: a lone "name" that is no column is a text to SQLite,
 * and every row would have the same key.
 */
annex_status source_column(const struct catalog_index *index, struct arena *arena,
                           const char *column, const char **out, annex_error *error)
{
    const char *quoted = NULL;
    *out = NULL;
    TRY(host_quote(arena, column, &quoted, error));
    return arena_printf(arena, out, error, "%s.%s", index->column_sql, quoted);
}

annex_status source_key_list(struct catalog_index *index, struct arena *arena, const char **out,
                             annex_error *error)
{
    *out = "";
    for (size_t i = 0; i < index->shape.n_columns; i++) {
        const char *name = NULL;
        TRY(source_column(index, arena, index->definition.keys[i], &name, error));
        TRY(arena_printf(arena, out, error, "%s%s%s", *out, i > 0 ? ", " : "", name));
    }
    return ANNEX_OK;
}

/* The first term uses the column's index, the second one its bytes. */
annex_status source_key_condition(struct catalog_index *index, struct arena *arena,
                                  const char **out, annex_error *error)
{
    *out = "";
    for (size_t i = 0; i < index->shape.n_columns; i++) {
        const char *name = NULL;
        const char *separator = i > 0 ? " AND " : "";
        TRY(source_column(index, arena, index->definition.keys[i], &name, error));
        TRY(arena_printf(arena, out, error, "%s%s%s = ?%zu", *out, separator, name, i + 1));
        if (!index->shape.integer) {
            TRY(arena_printf(arena, out, error, "%s AND %s = ?%zu COLLATE BINARY", *out, name,
                             i + 1));
        }
    }
    return ANNEX_OK;
}

annex_status source_condition(const struct catalog_index *index, struct arena *arena,
                              const char **out, annex_error *error)
{
    const struct definition *definition = &index->definition;
    const char *where = definition->where[0] != '\0' ? definition->where : "1";
    const char *column = NULL;
    if (definition->collection[0] == '\0') {
        return arena_printf(arena, out, error, "(%s\n)", where);
    }
    TRY(source_column(index, arena, definition->keys[0], &column, error));
    return arena_printf(arena, out, error, "%s = %lld AND (%s\n)", column,
                        (long long)index->collection_now, where);
}

static annex_status source_prepare(annex_db *db, struct catalog_index *index, struct arena *arena,
                                   const char *columns, const char *condition,
                                   struct host_statement **statement, annex_error *error)
{
    const char *where = NULL, *column = NULL;
    TRY(source_condition(index, arena, &where, error));
    TRY(source_column(index, arena, index->definition.column, &column, error));
    return host_prepare(db->host, statement, error, "SELECT %s%s%s FROM %s WHERE (%s) AND %s",
                        columns, columns[0] != '\0' ? ", " : "", column, index->table_sql,
                        condition[0] != '\0' ? condition : "1", where);
}

/* ---- by key ----------------------------------------------------------------------------------*/

annex_status source_fetch_open(annex_db *db, struct catalog_index *index,
                               struct source_fetch *fetch, annex_error *error)
{
    const char *condition = NULL, *columns = NULL;
    *fetch = (struct source_fetch){.db = db, .index = index, .scratch = {&db->env, NULL}};
    TRY(vector_reader_open(&db->env, &index->definition, &fetch->reader, error));
    annex_status status = source_key_condition(index, &fetch->scratch, &condition, error);
    if (status == ANNEX_OK) {
        status = source_key_list(index, &fetch->scratch, &columns, error);
    }
    if (status == ANNEX_OK) {
        status = source_prepare(db, index, &fetch->scratch, columns, condition, &fetch->statement,
                                error);
    }
    if (status != ANNEX_OK) {
        source_fetch_close(fetch);
    }
    return status;
}

void source_fetch_close(struct source_fetch *fetch)
{
    if (fetch->db == NULL) {
        return;
    }
    fetch->db->host->type->finish(fetch->statement);
    vector_reader_close(&fetch->reader);
    arena_free(&fetch->scratch);
    *fetch = (struct source_fetch){.db = NULL};
}

annex_status source_fetch_row(struct source_fetch *fetch, const annex_value *values, void *vector,
                              enum vector_state *state, struct buffer *buffer, struct rowkey *key,
                              annex_error *error)
{
    const struct host_type *type = fetch->db->host->type;
    size_t n_columns = fetch->index->shape.n_columns;
    annex_value stored[ANNEX_MAX_KEY_COLUMNS], value;
    bool row = false;
    *state = VECTOR_NONE;
    for (size_t i = 0; i < n_columns; i++) {
        TRY(type->bind(fetch->statement, (int)i + 1, &values[i], error));
    }
    annex_status status = type->step(fetch->statement, &row, error);
    if (status == ANNEX_OK && row) {
        type->column(fetch->statement, (int)n_columns, &value);
        *state = vector_read(&fetch->reader, &value, vector, &fetch->bad);
        for (size_t i = 0; key != NULL && i < n_columns; i++) {
            type->column(fetch->statement, (int)i, &stored[i]);
        }
        if (key != NULL) {
            status =
                rowkey_encode(&fetch->db->env, fetch->index->shape, stored, buffer, key, error);
        }
    }
    type->reset(fetch->statement);
    return status;
}

annex_status source_fetch_key(struct source_fetch *fetch, const struct rowkey *key, void *vector,
                              enum vector_state *state, annex_error *error)
{
    annex_value values[ANNEX_MAX_KEY_COLUMNS];
    *state = VECTOR_NONE;
    if (key->bytes == NULL) {
        values[0] = (annex_value){.type = ANNEX_INTEGER, .integer = key->integer};
        return source_fetch_row(fetch, values, vector, state, NULL, NULL, error);
    }
    struct arena scratch = {&fetch->db->env, NULL};
    annex_status status = rowkey_decode(fetch->index->shape, key, &scratch, values, error);
    if (status == ANNEX_OK) {
        status = source_fetch_row(fetch, values, vector, state, NULL, NULL, error);
    }
    arena_free(&scratch);
    return status;
}

/* ---- as a stream -----------------------------------------------------------------------------*/

annex_status source_rows_open(annex_db *db, struct catalog_index *index,
                              const struct rowkey_set *keys, const char *where, bool strict,
                              struct source_rows *rows, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    const char *columns = NULL;
    *rows = (struct source_rows){.db = db, .index = index, .keys = keys, .strict = strict};
    rows->batch.integer = index->shape.integer;
    annex_status status = vector_reader_open(&db->env, &index->definition, &rows->reader, error);
    TRY_CLEANUP(status);
    rows->batch_rows = MAX(SOURCE_BATCH_BYTES / MAX(rows->reader.bytes, (size_t)1), (size_t)1);
    rows->batch_rows = MIN(rows->batch_rows, (size_t)SOURCE_BATCH_ROWS);
    TRY_CLEANUP(
        memory_new_raw(&db->env, rows->batch_rows, rows->reader.bytes, &rows->vectors, error));
    if (keys != NULL) {
        TRY_CLEANUP(source_fetch_open(db, index, &rows->fetch, error));
    } else {
        TRY_CLEANUP(source_key_list(index, &scratch, &columns, error));
        TRY_CLEANUP(source_prepare(db, index, &scratch, columns, where, &rows->statement, error));
    }
cleanup:
    if (status != ANNEX_OK) {
        source_rows_close(rows);
    }
    arena_free(&scratch);
    return status;
}

void source_rows_close(struct source_rows *rows)
{
    if (rows->db == NULL) {
        return;
    }
    const annex_env *env = &rows->db->env;
    rows->db->host->type->finish(rows->statement);
    source_fetch_close(&rows->fetch);
    memory_free(env, rows->vectors, rows->batch_rows, rows->reader.bytes);
    vector_reader_close(&rows->reader);
    rowkey_set_free(env, &rows->batch);
    buffer_free(env, &rows->key_buffer);
    *rows = (struct source_rows){.db = NULL};
}

/* A row that cannot be indexed: an error, or one that is left out. */
static annex_status source_bad_row(struct source_rows *rows, const annex_value *values,
                                   const annex_error *why, annex_error *error)
{
    char text[KEY_TEXT_BYTES];
    const struct catalog_index *index = rows->index;
    annex_error sentence;
    if (!rows->strict && rows->left_out++ > 0) {
        return ANNEX_OK;
    }
    error_set(&sentence, ANNEX_INVALID, "row %s of %s cannot be indexed: %s in column %s",
              rowkey_print(values, index->shape.n_columns, text), index->table, why->message,
              index->definition.column);
    if (rows->strict) {
        return error_set(error, ANNEX_INVALID, "%s", sentence.message);
    }
    memcpy(rows->first_left_out, sentence.message, sizeof rows->first_left_out);
    return ANNEX_OK;
}

static annex_status source_bad_key(struct source_rows *rows, const struct rowkey *key,
                                   annex_error *error)
{
    annex_value values[ANNEX_MAX_KEY_COLUMNS];
    struct arena scratch = {&rows->db->env, NULL};
    annex_status status = rowkey_decode(rows->index->shape, key, &scratch, values, error);
    if (status == ANNEX_OK) {
        status = source_bad_row(rows, values, &rows->fetch.bad, error);
    }
    arena_free(&scratch);
    return status;
}

/* Adds the row under the statement to the batch, unless it is not to be indexed. */
static annex_status source_take_row(struct source_rows *rows, annex_error *error)
{
    const struct host_type *type = rows->db->host->type;
    size_t n_columns = rows->index->shape.n_columns;
    annex_value values[ANNEX_MAX_KEY_COLUMNS], value;
    annex_error why = {ANNEX_OK, ""};
    struct rowkey key;
    size_t position = 0;
    bool added = false;
    for (size_t i = 0; i < n_columns; i++) {
        type->column(rows->statement, (int)i, &values[i]);
    }
    type->column(rows->statement, (int)n_columns, &value);
    char *vector = (char *)rows->vectors + rows->batch.n * rows->reader.bytes;
    enum vector_state state = vector_read(&rows->reader, &value, vector, &why);
    if (state == VECTOR_NONE) {
        return ANNEX_OK;
    }
    if (state == VECTOR_BAD) {
        return source_bad_row(rows, values, &why, error);
    }
    rows->key_buffer.bytes = 0;
    annex_status status =
        rowkey_encode(&rows->db->env, rows->index->shape, values, &rows->key_buffer, &key, &why);
    if (status == ANNEX_INVALID) {
        return source_bad_row(rows, values, &why, error);
    }
    TRY(status);
    TRY(rowkey_set_add(&rows->db->env, &rows->batch, &key, &position, &added, error));
    if (!added && rows->index->beyond_sync) { /* a key that is not unique: both are rows */
        rows->again = true;
        return ANNEX_OK;
    }
    if (!added) {
        error_set(&why, ANNEX_INVALID, "its key names two rows");
        return source_bad_row(rows, values, &why, error);
    }
    return ANNEX_OK;
}

static annex_status source_next_scanned(struct source_rows *rows, bool *more, annex_error *error)
{
    if (rows->finished) {
        *more = false;
        return ANNEX_OK;
    }
    bool again = rows->again;
    rows->again = false;
    if (again) {
        return source_take_row(rows, error);
    }
    TRY(rows->db->host->type->step(rows->statement, more, error));
    if (!*more) {
        rows->finished = true; /* another step would begin anew */
        rows->db->host->type->reset(rows->statement);
        return ANNEX_OK;
    }
    return source_take_row(rows, error);
}

static annex_status source_next_key(struct source_rows *rows, bool *more, annex_error *error)
{
    enum vector_state state = VECTOR_NONE;
    size_t position = 0;
    bool added = false;
    *more = rows->next_key < rows->keys->n;
    if (!*more) {
        return ANNEX_OK;
    }
    struct rowkey key = rowkey_set_at(rows->keys, rows->next_key++);
    char *vector = (char *)rows->vectors + rows->batch.n * rows->reader.bytes;
    TRY(source_fetch_key(&rows->fetch, &key, vector, &state, error));
    if (state == VECTOR_BAD) {
        return source_bad_key(rows, &key, error);
    }
    return state != VECTOR_GOOD
               ? ANNEX_OK
               : rowkey_set_add(&rows->db->env, &rows->batch, &key, &position, &added, error);
}

static annex_status source_next(void *context, annex_batch *batch, annex_error *error)
{
    struct source_rows *rows = context;
    bool more = true;
    *batch = (annex_batch){.n = 0};
    rowkey_set_clear(&rows->batch);
    do {
        TRY(rows->keys != NULL ? source_next_key(rows, &more, error)
                               : source_next_scanned(rows, &more, error));
    } while (more && !rows->again && rows->batch.n < rows->batch_rows);
    batch->n = rows->batch.n;
    batch->vectors = rows->vectors;
    if (rows->batch.integer) {
        batch->keys = (const int64_t *)rows->batch.integers.data;
    } else {
        batch->key_bytes = rows->batch.bytes.data;
        batch->key_ends = (const uint64_t *)rows->batch.ends.data;
    }
    return ANNEX_OK;
}

static annex_status source_rewind(void *context, annex_error *error)
{
    struct source_rows *rows = context;
    (void)error;
    if (rows->statement != NULL) {
        rows->db->host->type->reset(rows->statement);
    }
    rows->finished = rows->again = false;
    rows->next_key = 0;
    rows->left_out = 0;
    return ANNEX_OK;
}

annex_rows source_rows_view(struct source_rows *rows)
{
    return (annex_rows){.context = rows, .next = source_next, .rewind = source_rewind};
}

void source_say_left_out(const struct source_rows *rows)
{
    if (rows->left_out > 0) {
        log_message(&rows->db->env, ANNEX_LOG_WARNING, "%s; %llu rows were left out",
                    rows->first_left_out, (unsigned long long)rows->left_out);
    }
}

/* ---- the first rows --------------------------------------------------------------------------*/

annex_status source_samples(annex_db *db, struct catalog_index *index, struct arena *arena,
                            annex_value *samples, size_t capacity, size_t *n, annex_error *error)
{
    const struct host_type *type = db->host->type;
    struct host_statement *statement = NULL;
    const char *column = NULL, *condition = NULL;
    bool row = true;
    *n = 0;
    annex_status status = source_column(index, arena, index->definition.column, &column, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(arena_printf(arena, &condition, error, "%s IS NOT NULL", column));
    TRY_CLEANUP(source_prepare(db, index, arena, "", condition, &statement, error));
    while (*n < capacity) {
        TRY_CLEANUP(type->step(statement, &row, error));
        if (!row) {
            break;
        }
        annex_value *sample = &samples[*n];
        type->column(statement, 0, sample);
        const char *copy = NULL;
        TRY_CLEANUP(arena_text(arena, sample->data, sample->bytes, &copy, error));
        sample->data = copy;
        (*n)++;
    }
cleanup:
    type->finish(statement);
    return status;
}

annex_status source_learn(annex_db *db, struct catalog_index *index, annex_error *error)
{
    annex_value samples[VECTOR_SAMPLES];
    struct arena scratch = {&db->env, NULL};
    size_t n = 0;
    annex_status status = source_samples(db, index, &scratch, samples, VECTOR_SAMPLES, &n, error);
    if (status == ANNEX_OK) {
        status = vector_detect(&db->env, samples, n, &index->definition, error);
    }
    arena_free(&scratch);
    return status;
}
