/*
 * faiss_search.c - faiss_search(database, table, embedding, k) and faiss_search_with_scores: the
 * nearest rows of a table with the columns `id` and `embedding`.
 *
 * The database is a schema (main, temp, an attached name) or the name of its file without folder
 * and ending, as Datasette names it. A row whose embedding is NULL is not there; any other value
 * that is no vector of the table's dimension is an error that names the row.
 *
 * Three ways to the same answer: an index; the vectors kept in memory from an earlier search; the
 * table itself, whose vectors are kept if they may be (faiss_cache.c).
 */
#include <string.h>

#include "sqlite/faiss/faiss.h"
#include "sqlite/statement.h"

/* Blocks scored between two looks at whether to stop: a few milliseconds. */
#define SEARCH_POLL_BLOCKS 32

struct search {
    sqlite3 *handle;
    struct connection *connection;
    annex_db *annex;
    struct faiss_cache *cache;
    struct faiss_table *table;
    struct faiss_stamp now;
    struct faiss_ranking ranking;
};

/* ---- Which database ---------------------------------------------------------------------------*/

/* Whether `name` is the file's name without folders and the last ending. */
static bool file_is_called(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash == NULL ? path : slash + 1;
    const char *dot = strrchr(file, '.');
    size_t bytes = dot == NULL || dot == file ? strlen(file) : (size_t)(dot - file);

    return bytes > 0 && strlen(name) == bytes && memcmp(file, name, bytes) == 0;
}

/* *schema = a copy of the name of the schema whose file has this name. */
static annex_status database_find_file(sqlite3 *handle, const char *name, char **schema,
                                       annex_error *error)
{
    sqlite3_stmt *list = NULL;
    annex_status status = statement_prepare(handle, &list, error, "PRAGMA database_list");
    bool row = true;

    while (status == ANNEX_OK && row) {
        const char *candidate;
        const char *path;

        status = statement_step(list, &row, error);
        candidate = row ? (const char *)sqlite3_column_text(list, 1) : NULL;
        path = row ? (const char *)sqlite3_column_text(list, 2) : NULL;
        if (candidate == NULL || path == NULL || !file_is_called(path, name)) {
            continue;
        }
        if (*schema != NULL) {
            connection_refuse(error,
                              "database %s is ambiguous: the files of %s and of %s are called so; "
                              "write main or the name that ATTACH gave",
                              name, *schema, candidate);
            status = error->status;
            break;
        }
        *schema = sqlite3_mprintf("%s", candidate);
    }
    sqlite3_finalize(list);
    return status;
}

/* *schema is freed by sqlite3_free. A schema of that name goes before a file. */
static annex_status database_find(sqlite3 *handle, const char *name, char **schema,
                                  annex_error *error)
{
    annex_status status = ANNEX_OK;

    *schema = NULL;
    if (sqlite3_txn_state(handle, name) >= SQLITE_TXN_NONE) {
        *schema = sqlite3_mprintf("%s", name);
    } else {
        status = database_find_file(handle, name, schema, error);
    }
    if (status == ANNEX_OK && *schema == NULL) {
        connection_refuse(error,
                          "there is no database %s: no schema of the connection has this name, and "
                          "none of their files is called so",
                          name);
        status = error->status;
    }
    return status;
}

/* ---- Reading the table ------------------------------------------------------------------------*/

/* A pass over the table, one block after the other. */
struct scan {
    struct search *search;
    sqlite3_stmt *rows;
    struct faiss_block *block; /* NULL before the first row with an embedding */
    bool keeps;                /* blocks are kept in memory */
};

static bool scan_check_dimension(const struct search *search, size_t dimension, annex_error *error)
{
    if (dimension != search->ranking.dimension) {
        connection_refuse(error,
                          "the embedding to search for has %zu dimensions, and those of table %s "
                          "have %zu",
                          search->ranking.dimension, search->table->name, dimension);
    }
    return dimension == search->ranking.dimension;
}

/* Scores the block and makes room for more rows. */
static bool scan_flush(struct scan *scan, annex_error *error)
{
    struct search *search = scan->search;
    struct faiss_block *next = NULL;

    if (!faiss_ranking_offer_block(&search->ranking, scan->block, error)) {
        return false;
    }
    if (scan->keeps) {
        next = faiss_block_new(scan->block->dimension);
        scan->keeps = next != NULL && faiss_cache_keep(search->cache, search->table, scan->block);
        if (!scan->keeps) {
            faiss_cache_drop(search->cache, search->table);
            search->table->is_too_large = true;
        }
    }
    if (scan->keeps) {
        next->first = scan->block->first + (int64_t)scan->block->n;
        scan->block = next;
    } else {
        faiss_block_free(next);
        faiss_block_clear(scan->block);
    }
    return true;
}

static bool scan_add(struct scan *scan, annex_error *error)
{
    sqlite3_value *id = sqlite3_column_value(scan->rows, 0);
    sqlite3_value *embedding = sqlite3_column_value(scan->rows, 1);
    const void *vector;
    size_t dimension;
    char shown[FAISS_SHOWN_BYTES];

    if (sqlite3_value_type(embedding) == SQLITE_NULL) {
        return true;
    }
    if (!faiss_read_row(id, embedding, &vector, &dimension, error)) {
        return false;
    }
    if (scan->block == NULL) {
        if (!scan_check_dimension(scan->search, dimension, error)) {
            return false;
        }
        scan->block = faiss_block_new(dimension);
        if (scan->block == NULL) {
            statement_nomem(error);
            return false;
        }
    }
    if (dimension != scan->block->dimension) {
        connection_refuse(error,
                          "the embedding of id %s has %zu dimensions, and those of the rows before "
                          "have %zu",
                          faiss_text_show(id, shown), dimension, scan->block->dimension);
        return false;
    }
    return faiss_block_add(scan->block, id, vector, error) &&
           (scan->block->n < scan->block->capacity || scan_flush(scan, error));
}

static annex_status scan_rows(struct scan *scan, annex_error *error)
{
    annex_status status = ANNEX_OK;
    bool row = true;

    while (status == ANNEX_OK && row) {
        status = statement_step(scan->rows, &row, error);
        if (status == ANNEX_OK && row && !scan_add(scan, error)) {
            status = error->status;
        }
    }
    if (status == ANNEX_OK && scan->block != NULL && !scan_flush(scan, error)) {
        status = error->status;
    }
    return status;
}

static annex_status scan_prepare(struct scan *scan, annex_error *error)
{
    const struct faiss_table *table = scan->search->table;
    annex_error why;
    annex_status status =
        statement_prepare(scan->search->handle, &scan->rows, &why,
                          "SELECT id, embedding FROM \"%w\".\"%w\"", table->schema, table->name);

    if (status != ANNEX_OK) {
        connection_refuse(error,
                          "table %s cannot be searched: %s; faiss_search reads its columns id and "
                          "embedding",
                          table->name, why.message);
        error->status = status;
    }
    return status;
}

static annex_status search_scan(struct search *search, annex_error *error)
{
    struct faiss_table *table = search->table;
    bool was_too_large = table->is_too_large && faiss_stamp_equal(&table->kept, &search->now);
    struct scan scan = {.search = search, .keeps = search->now.valid && !was_too_large};
    annex_status status;

    if (!was_too_large) {
        faiss_cache_drop(search->cache, table);
    }
    status = scan_prepare(&scan, error);
    if (status == ANNEX_OK) {
        status = scan_rows(&scan, error);
    }
    sqlite3_finalize(scan.rows);
    faiss_block_free(scan.block);
    if (status == ANNEX_OK) {
        table->kept = search->now;
    } else {
        faiss_cache_drop(search->cache, table);
    }
    return status;
}

/* ---- From memory ------------------------------------------------------------------------------*/

static annex_status search_kept(struct search *search, annex_error *error)
{
    const struct faiss_table *table = search->table;

    if (table->n_blocks > 0 && !scan_check_dimension(search, table->blocks[0]->dimension, error)) {
        return error->status;
    }
    for (size_t i = 0; i < table->n_blocks; i++) {
        if (i % SEARCH_POLL_BLOCKS == SEARCH_POLL_BLOCKS - 1 &&
            connection_is_interrupted(search->connection)) {
            connection_refuse(error, "interrupted");
            error->status = ANNEX_CANCELLED;
            return error->status;
        }
        if (!faiss_ranking_offer_block(&search->ranking, table->blocks[i], error)) {
            return error->status;
        }
    }
    return ANNEX_OK;
}

/* ---- The functions ----------------------------------------------------------------------------*/

static annex_status search_answer(struct search *search, annex_error *error)
{
    struct faiss_table *table = search->table;

    if (!faiss_stamp_equal(&table->chosen, &search->now)) {
        annex_status status = faiss_index_choose(search->annex, table, error);

        if (status != ANNEX_OK) {
            return status;
        }
        table->chosen = search->now;
    }
    if (table->index != NULL && search->ranking.is_measured) {
        return faiss_index_search(search->handle, search->annex, table, &search->ranking, error);
    }
    if (!table->is_too_large && faiss_stamp_equal(&table->kept, &search->now)) {
        return search_kept(search, error);
    }
    return search_scan(search, error);
}

static annex_status search_run(struct search *search, const char *database, const char *name,
                               annex_error *error)
{
    char *schema = NULL;
    annex_status status;

    search->cache = faiss_cache_of(search->connection);
    if (search->cache == NULL) {
        return statement_nomem(error);
    }
    status = database_find(search->handle, database, &schema, error);
    if (status == ANNEX_OK) {
        status = faiss_cache_enter(search->handle, search->cache, schema, name, &search->table,
                                   &search->now, error);
    }
    if (status == ANNEX_OK) {
        status = search_answer(search, error);
        faiss_table_leave(search->table);
    }
    sqlite3_free(schema);
    return status;
}

static void search_call(sqlite3_context *context, sqlite3_value **arguments, bool with_scores)
{
    struct search search = {.handle = sqlite3_context_db_handle(context),
                            .connection = sqlite3_user_data(context)};
    const char *database;
    const char *name;
    annex_error error;
    annex_status status = ANNEX_INVALID;

    if (function_text(arguments[0], "name of the database", &database, &error) &&
        function_text(arguments[1], "name of the table", &name, &error) &&
        faiss_ranking_open(&search.ranking, "the embedding to search for", arguments[2],
                           arguments[3], &error)) {
        status = connection_begin(search.connection, &search.annex, &error);
        if (status == ANNEX_OK) {
            status = search_run(&search, database, name, &error);
            connection_end(search.connection);
        }
    }
    if (status == ANNEX_OK) {
        faiss_ranking_result(&search.ranking, context, with_scores);
    } else {
        faiss_ranking_close(&search.ranking);
        connection_fail_function(context, &error);
    }
}

void faiss_search(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    search_call(context, arguments, false);
}

void faiss_search_with_scores(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    search_call(context, arguments, true);
}
