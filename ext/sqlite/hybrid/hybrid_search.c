/*
 * hybrid_search.c - one call of annex_hybrid: its arguments, the two searches, the distances.
 *
 * Invariants
 *   1. Both searches and the distances come from one snapshot, that of the statement.
 *   2. A list whose query is NULL or whose weight is 0 is not searched and adds no rows.
 *   3. A row that words alone have found gets its distance too, when the statement asks for it.
 */
#include "sqlite/hybrid/hybrid.h"
#include "sqlite/statement.h"

#define HYBRID_DEFAULT_K 10
/* So many rows are asked for their distance at a time, in one condition. */
#define HYBRID_FILL_ROWS 100

/* One search: what the arguments say, borrowed from them. */
struct hybrid_request {
    const char *index;
    const char *fts_table;
    const char *json;
    bool has_query[HYBRID_LISTS];
    size_t k;
    struct hybrid_options options;
    const struct keylist *keys; /* sorted; NULL: all rows */
    bool wants_distance;
};

/* ---- The arguments ----------------------------------------------------------------------------*/

static bool hybrid_is_null(sqlite3_value *value)
{
    return value == NULL || sqlite3_value_type(value) == SQLITE_NULL;
}

/* Whether there is something to search for by words. */
static bool hybrid_read_words(sqlite3_value *value, bool *has_words, annex_error *error)
{
    const unsigned char *text;

    *has_words = false;
    if (sqlite3_value_type(value) == SQLITE_BLOB) {
        connection_refuse(error, "the full-text query must be text, not a blob");
        return false;
    }
    text = sqlite3_value_text(value);
    if (text == NULL && sqlite3_value_type(value) != SQLITE_NULL) {
        statement_nomem(error);
        return false;
    }
    for (; text != NULL && *text != '\0'; text++) {
        *has_words = *has_words || *text > ' ';
    }
    return true;
}

static bool hybrid_read_request(struct hybrid_cursor *hybrid, struct hybrid_request *request,
                                annex_error *error)
{
    struct hybrid_table *table = (struct hybrid_table *)hybrid->base.pVtab;
    sqlite3_value **arguments = hybrid->arguments;
    sqlite3_value *options = arguments[ARGUMENT_OPTIONS];

    for (int i = 0; i <= ARGUMENT_FTS_QUERY; i++) {
        if (arguments[i] == NULL) {
            connection_refuse(error, "annex_hybrid needs an index, a vector, an FTS5 table and "
                                     "words: annex_hybrid('index', vector, 'fts_table', 'words', "
                                     "k); vector or words may be NULL");
            return false;
        }
    }
    if (!function_text(arguments[ARGUMENT_INDEX], "name of the index", &request->index, error) ||
        !function_text(arguments[ARGUMENT_FTS_TABLE], "name of the FTS5 table", &request->fts_table,
                       error) ||
        !hybrid_read_words(arguments[ARGUMENT_FTS_QUERY], &request->has_query[HYBRID_TEXT],
                           error) ||
        (!hybrid_is_null(arguments[ARGUMENT_K]) &&
         !search_read_k(arguments[ARGUMENT_K], &request->k, error))) {
        return false;
    }
    if (!hybrid_is_null(options) && !function_text(options, "options", &request->json, error)) {
        return false;
    }
    if (hybrid_options_read(table->handle, request->json, &request->options, error) != ANNEX_OK) {
        return false;
    }
    request->has_query[HYBRID_VECTOR] = !hybrid_is_null(arguments[ARGUMENT_QUERY]);
    return true;
}

/* ---- Searching --------------------------------------------------------------------------------*/

static bool hybrid_uses(const struct hybrid_request *request, enum hybrid_list list)
{
    return request->has_query[list] && request->options.weights[list] > 0;
}

static void hybrid_result_key(const annex_result *result, size_t i, size_t columns,
                              annex_value *key)
{
    for (size_t column = 0; column < columns; column++) {
        key[column] = annex_result_key(result, i, column);
    }
}

/* The search by vector with `request`, whose query it sets. *result is NULL without rows. */
static annex_status hybrid_ask(struct hybrid_cursor *hybrid, const char *index,
                               annex_db_request *request, annex_result **result, annex_error *error)
{
    struct connection *connection = ((struct hybrid_table *)hybrid->base.pVtab)->connection;
    annex_db *annex;
    annex_status status = connection_begin(connection, &annex, error);

    *result = NULL;
    if (status == ANNEX_OK) {
        request->query = connection_value(hybrid->arguments[ARGUMENT_QUERY]);
        status = annex_db_search(annex, index, request, result, error);
        if (status == ANNEX_OK) {
            connection_enter(connection); /* for the result */
        }
        connection_end(connection);
    }
    return status;
}

static void hybrid_forget(struct hybrid_cursor *hybrid, annex_result *result)
{
    if (result != NULL) {
        annex_result_free(result);
        connection_leave(((struct hybrid_table *)hybrid->base.pVtab)->connection);
    }
}

static annex_status hybrid_search_vector(struct hybrid_cursor *hybrid,
                                         const struct hybrid_request *request, size_t depth,
                                         annex_error *error)
{
    annex_db_request ask = ANNEX_DB_REQUEST_INIT;
    annex_value key[ANNEX_MAX_KEY_COLUMNS];
    annex_result *result;
    annex_status status;

    ask.k = depth;
    ask.options = request->options.search;
    if (request->keys != NULL) {
        ask.keys = request->keys->keys;
        ask.n_keys = request->keys->n;
        ask.has_keys = true;
    }
    status = hybrid_ask(hybrid, request->index, &ask, &result, error);
    for (size_t i = 0; status == ANNEX_OK && i < annex_result_count(result); i++) {
        struct hybrid_row *row;

        hybrid_result_key(result, i, hybrid->rows.key_columns, key);
        row = hybrid_rows_add(&hybrid->rows, key);
        if (row == NULL) {
            status = statement_nomem(error);
            break;
        }
        row->distance = annex_result_distance(result, i);
        row->ranks[HYBRID_VECTOR] = i + 1;
    }
    if (status == ANNEX_OK) {
        sqlite3_free(hybrid->plan);
        hybrid->plan = sqlite3_mprintf("vector: %s", annex_result_plan(result));
        hybrid->complete = annex_result_complete(result);
    }
    hybrid_forget(hybrid, result);
    return status;
}

/* The distances of `n` rows that the search by vector has not come to. */
static annex_status hybrid_fill_some(struct hybrid_cursor *hybrid,
                                     const struct hybrid_request *request,
                                     struct hybrid_row *const *rows, size_t n, annex_error *error)
{
    annex_db_request ask = ANNEX_DB_REQUEST_INIT;
    annex_value key[ANNEX_MAX_KEY_COLUMNS];
    annex_result *result;
    annex_status status;
    char *where = hybrid_text_condition(hybrid->text, rows, n);

    if (where == NULL) {
        return statement_nomem(error);
    }
    ask.k = INT64_MAX;
    ask.where = where;
    ask.exact = true;
    status = hybrid_ask(hybrid, request->index, &ask, &result, error);
    for (size_t i = 0; status == ANNEX_OK && i < annex_result_count(result); i++) {
        struct hybrid_row found = {.key = key, .key_columns = hybrid->rows.key_columns};

        hybrid_result_key(result, i, hybrid->rows.key_columns, key);
        for (size_t j = 0; j < n; j++) {
            if (hybrid_row_compare(rows[j], &found) == 0) {
                rows[j]->distance = annex_result_distance(result, i);
            }
        }
    }
    hybrid_forget(hybrid, result);
    sqlite3_free(where);
    return status;
}

static annex_status hybrid_fill(struct hybrid_cursor *hybrid, const struct hybrid_request *request,
                                annex_error *error)
{
    struct hybrid_row *rows[HYBRID_FILL_ROWS];
    annex_status status = ANNEX_OK;
    size_t n = 0;

    for (size_t i = 0; i < hybrid->rows.n && status == ANNEX_OK; i++) {
        if (hybrid->rows.rows[i].ranks[HYBRID_VECTOR] == 0) {
            rows[n++] = &hybrid->rows.rows[i];
        }
        if (n == HYBRID_FILL_ROWS || (n > 0 && i + 1 == hybrid->rows.n)) {
            status = hybrid_fill_some(hybrid, request, rows, n, error);
            n = 0;
        }
    }
    return status;
}

/* Both lists, and how they were found. */
static annex_status hybrid_search_both(struct hybrid_cursor *hybrid,
                                       const struct hybrid_request *request, annex_error *error)
{
    size_t depth =
        request->k > request->options.candidates ? request->k : request->options.candidates;
    annex_status status = ANNEX_OK;
    size_t n;

    hybrid->plan = sqlite3_mprintf("vector: none");
    hybrid->complete = true;
    if (hybrid_uses(request, HYBRID_VECTOR)) {
        status = hybrid_search_vector(hybrid, request, depth, error);
    }
    n = hybrid->rows.n;
    if (status == ANNEX_OK && hybrid_uses(request, HYBRID_TEXT)) {
        status = hybrid_text_search(hybrid->text, hybrid->arguments[ARGUMENT_FTS_QUERY], depth,
                                    request->keys, &hybrid->rows, error);
    }
    if (status == ANNEX_OK) {
        char *plan =
            sqlite3_mprintf("%s; %llu rows; words: %llu rows", hybrid->plan, (unsigned long long)n,
                            (unsigned long long)(hybrid->rows.n - n));

        sqlite3_free(hybrid->plan);
        hybrid->plan = plan;
    }
    return status;
}

static annex_status hybrid_search(struct hybrid_cursor *hybrid,
                                  const struct hybrid_request *request, annex_error *error)
{
    annex_status status = hybrid_text_hold(hybrid->text, error);

    hybrid->rows.key_columns = hybrid_text_key_columns(hybrid->text);
    if (status == ANNEX_OK) {
        status = hybrid_search_both(hybrid, request, error);
    }
    if (status == ANNEX_OK) {
        hybrid_rows_fuse(&hybrid->rows, &request->options, request->k);
        if (request->wants_distance && request->has_query[HYBRID_VECTOR]) {
            status = hybrid_fill(hybrid, request, error);
        }
    }
    hybrid_text_release(hybrid->text);
    return status;
}

int hybrid_run(struct hybrid_cursor *hybrid, struct keylist *keys, bool filtered,
               bool wants_distance)
{
    struct hybrid_table *table = (struct hybrid_table *)hybrid->base.pVtab;
    struct hybrid_request request = {
        .k = HYBRID_DEFAULT_K, .keys = filtered ? keys : NULL, .wants_distance = wants_distance};
    annex_status status;
    annex_error error;

    if (!hybrid_read_request(hybrid, &request, &error)) {
        return connection_fail_table(&table->base, &error);
    }
    keylist_sort(keys);
    status = hybrid_text_open(table->handle, table->connection, request.index, request.fts_table,
                              request.options.fts_key, &hybrid->text, &error);
    if (status == ANNEX_OK) {
        status = hybrid_search(hybrid, &request, &error);
    }
    hybrid_options_free(&request.options);
    return status == ANNEX_OK ? SQLITE_OK : connection_fail_table(&table->base, &error);
}
