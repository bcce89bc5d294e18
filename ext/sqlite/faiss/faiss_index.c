/*
 * faiss_index.c - answers of faiss_search from an Annex index over the column `embedding`.
 *
 * The index is asked for exact answers, and the rows it names are read and scored like any others,
 * so that scores and the order of equal ones are those of a scan of the table. It orders equal
 * distances by key, a scan by row: where the last place is contested, all rows as near are read.
 */
#include <string.h>

#include "sqlite/faiss/faiss.h"
#include "sqlite/statement.h"

static const char index_options[] = "{\"effort\": \"exact\"}";

/* Whether the index holds what a scan of the table sees, and under the same distance. */
static bool index_answers_for(const annex_db_index *index, const struct faiss_table *table)
{
    return index->n_sources == 0 && sqlite3_stricmp(index->schema, table->schema) == 0 &&
           sqlite3_stricmp(index->table, table->name) == 0 &&
           sqlite3_stricmp(index->column, "embedding") == 0 &&
           sqlite3_stricmp(index->keys, "id") == 0 && index->where[0] == '\0' &&
           strcmp(index->metric, "l2") == 0 && strcmp(index->format, "f32") == 0 &&
           strcmp(index->state, "stale") != 0;
}

annex_status faiss_index_choose(annex_db *annex, struct faiss_table *table, annex_error *error)
{
    annex_db_index *list = NULL;
    size_t n = 0;
    annex_status status = annex_db_list(annex, &list, &n, error);

    sqlite3_free(table->index);
    table->index = NULL;
    for (size_t i = 0; i < n && table->index == NULL; i++) {
        if (index_answers_for(&list[i], table)) {
            table->index = sqlite3_mprintf("%s.%s", list[i].schema, list[i].name);
        }
    }
    annex_db_list_free(annex, list, n);
    return status;
}

/* At least the k nearest, and every row that is as near as the last of them. */
static annex_status index_ask(annex_db *annex, const struct faiss_table *table,
                              const struct faiss_ranking *ranking, annex_result **result,
                              annex_error *error)
{
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    size_t k = ranking->k < ANNEX_MAX_ROWS ? (size_t)ranking->k : ANNEX_MAX_ROWS;
    double reach = 1 + faiss_ranking_margin(ranking);
    double last;
    annex_status status;

    request.query = (annex_value){
        .type = ANNEX_BLOB, .data = ranking->query, .bytes = ranking->dimension * sizeof(float)};
    request.k = k + 1;
    request.options = index_options;
    status = annex_db_search(annex, table->index, &request, result, error);
    if (status != ANNEX_OK || annex_result_count(*result) <= k) {
        return status;
    }
    last = annex_result_distance(*result, k - 1) * reach;
    if (annex_result_distance(*result, k) > last) {
        return status;
    }
    annex_result_free(*result);
    *result = NULL;
    request.has_distance = 1;
    request.distance = last;
    return annex_db_search(annex, table->index, &request, result, error);
}

static int index_bind(sqlite3_stmt *row, const annex_value *key)
{
    const void *data = key->data != NULL ? key->data : "";

    switch (key->type) {
    case ANNEX_INTEGER:
        return sqlite3_bind_int64(row, 1, key->integer);
    case ANNEX_REAL:
        return sqlite3_bind_double(row, 1, key->real);
    case ANNEX_TEXT:
        return sqlite3_bind_text64(row, 1, data, key->bytes, SQLITE_STATIC, SQLITE_UTF8);
    case ANNEX_BLOB:
        return sqlite3_bind_blob64(row, 1, data, key->bytes, SQLITE_STATIC);
    default:
        return sqlite3_bind_null(row, 1);
    }
}

/*
 * Scores the row with this key. `place` is its position where the table has no rowid; `vector` is
 * room for one.
 */
static annex_status index_score(sqlite3_stmt *row, const annex_value *key, int64_t place,
                                float *vector, struct faiss_ranking *ranking, annex_error *error)
{
    size_t bytes = ranking->dimension * sizeof(float);
    int code = index_bind(row, key);
    bool is_there = false;
    annex_status status = code == SQLITE_OK ? statement_step(row, &is_there, error)
                                            : statement_fail(sqlite3_db_handle(row), code, error);

    if (status == ANNEX_OK && is_there && (size_t)sqlite3_column_bytes(row, 1) == bytes) {
        if (sqlite3_column_count(row) > 2) {
            place = sqlite3_column_int64(row, 2);
        }
        memcpy(vector, sqlite3_column_blob(row, 1), bytes);
        status = faiss_ranking_offer(ranking, place, sqlite3_column_value(row, 0), vector, error)
                     ? ANNEX_OK
                     : error->status;
    }
    sqlite3_reset(row);
    return status;
}

static annex_status index_prepare_row(sqlite3 *handle, const struct faiss_table *table,
                                      sqlite3_stmt **row, annex_error *error)
{
    static const char *const columns[] = {"id, embedding, _rowid_", "id, embedding"};
    annex_status status = ANNEX_HOST;

    for (int i = 0; i < 2 && status == ANNEX_HOST; i++) {
        status = statement_prepare(handle, row, error, "SELECT %s FROM \"%w\".\"%w\" WHERE id = ?1",
                                   columns[i], table->schema, table->name);
    }
    return status;
}

annex_status faiss_index_search(sqlite3 *handle, annex_db *annex, const struct faiss_table *table,
                                struct faiss_ranking *ranking, annex_error *error)
{
    annex_result *result = NULL;
    sqlite3_stmt *row = NULL;
    float *vector = sqlite3_malloc64(ranking->dimension * sizeof *vector);
    annex_status status =
        vector == NULL ? statement_nomem(error) : index_ask(annex, table, ranking, &result, error);

    if (status == ANNEX_OK) {
        status = index_prepare_row(handle, table, &row, error);
    }
    for (size_t i = 0; status == ANNEX_OK && i < annex_result_count(result); i++) {
        annex_value key = annex_result_key(result, i, 0);

        status = index_score(row, &key, (int64_t)i, vector, ranking, error);
    }
    sqlite3_finalize(row);
    annex_result_free(result);
    sqlite3_free(vector);
    return status;
}
